"""What stays of the configuration when the code that has checked it is forgotten."""


class ConfigError(Exception):
    """A configuration that is refused: `field` is the member at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__("config " + field + ": " + why)
        self.field = field
        self.why = why


class Values:
    """The attributes of a core.config.Config."""
