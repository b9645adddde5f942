# Empty on purpose: see emu.console._module.
