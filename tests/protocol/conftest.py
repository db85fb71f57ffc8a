"""Properties are tried on the same examples everywhere, as those of the core are."""

import tests.core.conftest  # noqa: F401 - it loads the profile
