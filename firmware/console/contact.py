"""The console's command `relay`: the contact, and a test of it. Loaded when somebody asks.

A test opens the supply, so it is typed twice: `relay test` shows a code, `relay test CODE` with it
begins. The meter ends the test, also if nobody waits here. Tests:
host_tests/unit/test_console.py, host_tests/system/test_relays.py.
"""

from firmware.console.commands import CommandError
from firmware.core.shim import const

TEST_S = const(5)
_CODE_S = const(60)
_SLACK_S = const(10)


async def relay(console, words):
    """Does what the words behind `relay` say."""
    control = console.meter.control
    contactor = control.contactor
    if not words:
        console.say("relay=%s operations=%d" % (control.words(), contactor.operations))
        if contactor.seen and control.standing:
            console.say("the contact is still closed")
        if contactor.failed:
            console.say("the contact does not follow, event %d" % contactor.failed)
        delay_ms = contactor.held_up_ms - console.meter.clock.up_ms()
        if delay_ms > 0:
            console.say("closes in %d s, behind the power failure" % (delay_ms // 1000 + 1))
    elif words == ["test"]:
        up_ms = console.meter.clock.up_ms()
        console.test_code = "%04d" % (up_ms % 9973)
        console.test_until_s = up_ms // 1000 + _CODE_S
        console.say(
            "opens the supply for %d s: `relay test %s` within %d s"
            % (TEST_S, console.test_code, _CODE_S)
        )
    elif words[0] == "test" and len(words) == 2:
        code, console.test_code = console.test_code, ""
        if not code or words[1] != code or console.meter.clock.up_s() > console.test_until_s:
            raise CommandError("code", "must be the one that `relay test` shows, within its time")
        await _test(console)
    else:
        raise CommandError("relay", "takes nothing, test, or test CODE")


async def _test(console):
    meter = console.meter
    contactor = meter.control.contactor
    operations = contactor.operations
    why = []
    if not meter.attempt(lambda: why.append(meter.control.test())):
        raise CommandError("flash", "refuses writes, nothing was changed")
    if why[0]:
        raise CommandError("relay", "is not tested now, because of: " + why[0])
    end_s = meter.clock.up_s() + TEST_S + _SLACK_S
    while contactor.operations < operations + 2 and meter.clock.up_s() < end_s:
        await console.pause()
    if contactor.failed:
        console.say("the contact did not follow, event %d" % contactor.failed)
    elif contactor.operations < operations + 2:
        console.say("the contact was not told open and closed again, see the log")
    else:
        console.say("the contact has opened and closed")
