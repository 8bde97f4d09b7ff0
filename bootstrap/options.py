"""Words that settings are chosen from; cheap to import, as help needs them."""

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "console")
OUTPUTS = ("text", "json")
TERMINATION_LOG = "/dev/termination-log"
