"""AIM Engine: serve a language model on AMD GPUs with the best settings known for it.

The program in five lines (`aim_engine.cli.serve` says it in code):

    request = read_request(flags, environment)      # what was asked, and where each value came from
    inventory = detect(request.hardware)            # what is here
    catalog = load_catalog(request.model)           # what we know
    plan = make_plan(request, inventory, catalog)   # which one, and why
    run(plan)                                       # inside the container, or outside
"""

__version__ = "0.1.0"
