"""`python -m llmrl` is `llmrl`."""

import sys

from llmrl.cli import main

sys.exit(main())
