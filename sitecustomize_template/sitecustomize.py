"""Bake stardust_auto into an image: every Python of it is ready to trace, no launcher, no PYTHONPATH, no change to a program.

Copy this file into the environment's site-packages (README.md beside it says how). Nothing is active until the container
is started with ``STARDUST_SERVER`` set; then every Python process of this environment reports to that server.
"""

try:
    from stardust_auto.activation.boot import activate
except ImportError:  # an environment without stardust_auto
    activate = None

if activate is not None:
    # Costs well under a millisecond when there is nothing to do, never raises, and never writes to stdout.
    activate()

# Lines of your own, which ran from sitecustomize before, go here.
