"""Workers: the processes that carry the function steps of a pipeline's run out, `python -m modelops.runtime steps`.

A worker is two processes. The *keeper* (`keeper.py`) speaks with the platform: it claims steps, fetches what they take,
says that they are alive, sends what they write and what came of them. The *runner* (`runner.py`) is its child and holds
nothing but the user's code: it runs one step at a time. A step that ends its process, breaks a limit or will not stop takes
the runner with it, which the keeper replaces; it never takes the worker, nor its other steps.
"""
