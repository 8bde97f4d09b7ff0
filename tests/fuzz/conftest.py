"""How many inputs each parser gets: FUZZ_EXAMPLES, few by default."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))

settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
