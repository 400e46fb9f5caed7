"""`python -m natsvc` is the command `natsvc`, wherever the scripts directory is not on PATH."""

import sys

from natsvc.cli import main

sys.exit(main())
