import os

from hypothesis import settings

# One thread: two on shared cores are slower than one. No deadline: a shared machine stalls at will.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("jmsnas", deadline=None, print_blob=True)
settings.load_profile("jmsnas")
