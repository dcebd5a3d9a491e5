"""What `aim-engine serve` does once it has a plan: `serve_plan.py PLAN_FILE`."""

import json
import sys
from pathlib import Path

from aim_engine.errors import AimError
from aim_engine.runtime import handover

if __name__ == "__main__":
    try:
        spare = handover.begin()
        handover.run(json.loads(Path(sys.argv[1]).read_text()), spare)
    except handover.StopAskedError as stop:
        print(json.dumps(stop.words), file=sys.stderr)
        sys.exit(0)
    except AimError as error:
        print(json.dumps(error.as_json()), file=sys.stderr)
        sys.exit(error.code)
