"""`_asyncio` of the emulated ESP32: the task queue and task in Python.

The built-in C version stamps immediate pushes and `cancel()` with the host's clock and not with
`time.ticks_ms`: with simulated time loops would hang. Tasks that are due at the same tick run in
the order in which they were queued, as with the built-in.
"""

from time import ticks_diff

from emu import clock


class TaskQueue:
    def __init__(self):
        self.tasks = []  # by due tick, earliest first

    def peek(self):
        return self.tasks[0] if self.tasks else None

    def push(self, task, key=None):
        task.data = None
        if key is None:
            key = clock.ticks
        task.ph_key = key
        tasks = self.tasks
        i = len(tasks)
        while i and ticks_diff(tasks[i - 1].ph_key, key) > 0:
            i -= 1
        tasks.insert(i, task)

    def pop(self):
        return self.tasks.pop(0)

    def remove(self, task):
        self.tasks.remove(task)


class Task:
    def __init__(self, coro, globals=None):
        self.coro = coro
        self.data = None  # the queue or task it waits for; when finished, its exception
        self.state = True  # True: runs; TaskQueue: awaited; callable; None or False: finished
        self.ph_key = 0  # due tick (the name that asyncio.core uses)
        self.loop = globals  # globals of asyncio.core

    def __iter__(self):
        if not self.state:
            self.state = False  # finished, and now awaited
        elif self.state is True:
            self.state = TaskQueue()
        elif type(self.state) is not TaskQueue:
            raise RuntimeError("can't wait")
        return self

    def __next__(self):
        if not self.state:
            if self.data is None:
                raise StopIteration  # its exception went to the loop's handler already
            raise self.data
        current = self.loop["cur_task"]
        self.state.push(current)
        current.data = self

    def done(self):
        return not self.state

    def cancel(self):
        if not self.state:
            return False
        if self is self.loop["cur_task"]:
            raise RuntimeError("can't cancel self")
        task = self
        while isinstance(task.data, Task):
            task = task.data
        queue = task.loop["_task_queue"]
        if hasattr(task.data, "remove"):  # waits in another queue
            task.data.remove(task)
            queue.push(task)
        elif ticks_diff(task.ph_key, clock.ticks) > 0:  # sleeps: bring it forward
            queue.remove(task)
            queue.push(task)
        task.data = task.loop["CancelledError"]
        return True
