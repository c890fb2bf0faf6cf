"""Bake stardust_auto into an image: every Python of it is ready to trace, no launcher, no PYTHONPATH, no change to a program.

Copy this file into the environment's site-packages (README.md beside it says how). Nothing is active until the container is started with
``STARDUST_SERVER`` set. From then on every Python process of this environment reports to that server.
"""

try:
    from stardust_auto import activate
except ImportError:  # an environment without stardust_auto
    activate = None

if activate is not None:
    # Takes well under a millisecond where there is nothing to do, never raises, and never writes to stdout.
    activate()

# Lines of your own, which ran from sitecustomize before, go here.
