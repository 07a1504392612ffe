"""What a person can ask for, one function a file."""

from cllm.jobs.threads import set_waiting

# Every way to torch leads through this room, and it must be decided before.
set_waiting()
