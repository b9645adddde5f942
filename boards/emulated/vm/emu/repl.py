"""The REPL's server: friendly and raw, as MicroPython's `pyexec.c` speaks them.

Raw paste is declined. While the firmware is stopped at a prompt this board is idle for ever, and
its timers and its watchdog stand still until the next command.
"""

import io
import sys

from emu import clock, console, control

_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D, _CTRL_E = 1, 2, 3, 4, 5
_HISTORY = 16

_globals = None
_history = []
_stopped_ms = 0  # when the firmware stopped


def run(main_globals, raw):
    """Run boot.py and main.py of the flash, then serve the port for ever.

    main_globals: the namespace of `__main__`. raw: come up in the raw REPL without main.py.
    """
    global _globals
    _globals = main_globals
    if not (_execute_file("boot.py") or raw):
        _execute_file("main.py")
    while True:
        try:
            console.kbd_reset()
            control.terminal(-1, True)
            raw = _raw_repl() if raw else _friendly_repl()
        except KeyboardInterrupt:
            # A signal that was sent when the program it was meant for had just ended.
            pass


def _soft_reset(raw):
    console.write(b"MPY: soft reboot\r\n")
    control.reset("soft", raw)


def _execute(code, raw, kind="exec", name="<stdin>"):
    """Compile and run; return the text of its traceback, or "" (a forced exit resets)."""
    failure = None
    clock.shift_alarms(clock.now_ms() - _stopped_ms)
    try:
        control.terminal(3, False)
        exec(compile(code, name, kind), _globals)
    except BaseException as er:
        failure = er
    return _ended(failure, raw)


def _execute_file(name):
    """Run a file of the flash, if it is there. True when it was and failed."""
    failure = None
    try:
        open(name).close()
    except OSError:
        return False
    try:
        control.terminal(3, False)
        execfile(name, _globals)  # noqa: F821
    except BaseException as er:
        failure = er
    text = _ended(failure, False)
    if text:
        control.terminal(-1, False)  # for a person at the console, not for a client's protocol
        console.write(text)
        control.terminal(-1, True)
    return bool(text)


def _ended(failure, raw):
    global _stopped_ms
    while True:
        try:
            console.kbd_reset()
            control.terminal(-1, True)
            break
        except KeyboardInterrupt as er:  # a second Ctrl-C while the first was handled
            failure = failure or er
    _stopped_ms = clock.now_ms()
    if failure is None:
        return ""
    if isinstance(failure, SystemExit):
        if raw:
            console.write(b"\x04\x04")
        _soft_reset(raw)
    out = io.StringIO()
    sys.print_exception(failure, out)
    # A chip's traceback does not show what lies below the firmware (flashing.emulator_files).
    own = '  File "emulator/'
    lines = [line for line in out.getvalue().split("\n") if not line.startswith(own)]
    return "\r\n".join(lines)


def _raw_repl():
    """Serve the raw REPL until Ctrl-B; returns False (the next mode is not raw)."""
    banner = b"raw REPL; CTRL-B to exit\r\n"
    line = bytearray()
    console.write(banner)
    console.write(b">")
    while True:
        byte = console.read_byte(alarms=False)
        if byte == _CTRL_A:
            if line == b"\x05A":
                console.write(b"R\x00")  # raw paste is not spoken here
            else:
                console.write(banner)
                console.write(b">")
            line = bytearray()
        elif byte == _CTRL_B:
            console.write(b"\r\n")
            return False
        elif byte == _CTRL_C:
            line = bytearray()
        elif byte == _CTRL_D:
            console.write(b"OK")
            if not line:
                console.write(b"\r\n")
                _soft_reset(True)
            code = bytes(line)
            line = bytearray()
            text = _execute(code, True)
            console.write(b"\x04")
            console.write(text)
            console.write(b"\x04>")
        else:
            line.append(byte)


def _friendly_repl():
    """Serve the friendly REPL until Ctrl-A; returns True (the next mode is raw)."""
    console.write(
        "\r\nMicroPython v%s; %s\r\n" % (console.VERSION, console.MACHINE)
        + 'Type "help()" for more information.\r\n'
    )
    while True:
        line = _read_line(">>> ", "")
        if line == _CTRL_A:
            console.write(b"\r\n")
            return True
        if line == _CTRL_B:
            return False  # shows the banner again
        if line == _CTRL_C:
            continue
        if line == _CTRL_D:
            console.write(b"\r\n")
            _soft_reset(False)
        if line == _CTRL_E:
            code = _paste()
            kind = "exec"
        else:
            code = _read_block(line)
            kind = "single"
        if code and code.strip():
            console.write(_execute(code, False, kind))


def _read_block(line):
    """The rest of a statement that begins with `line`; None when it was cancelled."""
    code = line
    while _goes_on(code):
        last = code.split("\n")[-1]
        indent = len(last) - len(last.lstrip(" "))
        if last.rstrip().endswith(":"):
            indent += 4
        line = _read_line("... ", " " * indent)
        if isinstance(line, int):
            return None
        if not line.strip() and not _open_brackets(code):
            break
        code += "\n" + line
    return code + "\n"


def _goes_on(code):
    """True when the statement needs another line."""
    first = code.lstrip()
    compound = first.startswith(
        ("if ", "while ", "for ", "try:", "with ", "def ", "class ", "async ", "@")
    )
    return compound or code.endswith("\\") or _open_brackets(code)


def _open_brackets(code):
    """True when a bracket or a triple-quoted text is still open."""
    depth = 0
    quote = None
    i = 0
    while i < len(code):
        char = code[i]
        if quote:
            if char == "\\":
                i += 1
            elif code[i : i + len(quote)] == quote:
                i += len(quote) - 1
                quote = None
            elif char == "\n" and len(quote) == 1:
                quote = None
        elif char in "'\"":
            quote = char * 3 if code[i : i + 3] == char * 3 else char
            i += len(quote) - 1
        elif char == "#":
            while i + 1 < len(code) and code[i + 1] != "\n":
                i += 1
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        i += 1
    return depth > 0 or (quote is not None and len(quote) == 3)


def _read_line(prompt, line):
    """Edit one line; returns its text, or the code of Ctrl-A ... Ctrl-E."""
    console.write(prompt + line)
    shown = len(_history)
    line = bytearray(line.encode())
    while True:
        byte = console.read_byte(alarms=False)
        if byte == 13 or byte == 10:
            console.write(b"\r\n")
            text = str(bytes(line), "utf8")
            if text.strip() and (not _history or _history[-1] != text):
                _history.append(text)
                if len(_history) > _HISTORY:
                    _history.pop(0)
            return text
        if byte == _CTRL_C:
            console.write(b"\r\n")
            return byte
        if byte in (_CTRL_A, _CTRL_B, _CTRL_D, _CTRL_E):
            if not line:
                return byte
        elif byte == 8 or byte == 127:
            while line and line[-1] & 0xC0 == 0x80:  # the tail of a UTF-8 character
                line = line[:-1]
            if line:
                line = line[:-1]
                console.write(b"\x08 \x08")
        elif byte == 27:
            key = _escape_sequence()
            if key == 65 or key == 66:  # up, down
                shown += -1 if key == 65 else 1
                shown = max(0, min(shown, len(_history)))
                new = _history[shown] if shown < len(_history) else ""
                console.write("\x08 \x08" * len(str(bytes(line), "utf8")))
                console.write(new)
                line = bytearray(new.encode())
        elif byte == 9:
            line += b"    "
            console.write(b"    ")
        elif byte >= 32:
            line.append(byte)
            console.write(bytes((byte,)))


def _escape_sequence():
    """The last byte of a terminal's key sequence."""
    if console.read_byte(alarms=False) != 91:
        return 0
    while True:
        byte = console.read_byte(alarms=False)
        if 64 <= byte <= 126:
            return byte


def _paste():
    """Paste mode: text until Ctrl-D; None when cancelled by Ctrl-C."""
    console.write(b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
    code = bytearray()
    while True:
        byte = console.read_byte(alarms=False)
        if byte == _CTRL_C:
            console.write(b"\r\n")
            return None
        if byte == _CTRL_D:
            console.write(b"\r\n")
            return str(bytes(code), "utf8")
        if byte == 13 or byte == 10:
            code.append(10)
            console.write(b"\r\n=== ")
        else:
            code.append(byte)
            console.write(bytes((byte,)))
