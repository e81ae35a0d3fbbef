"""Decides what to do about a job. Pure: what is known goes in, a decision comes out.

`decide` is the entry, with the life of a job as a diagram. It asks in turn:

| module | question |
|---|---|
| `acceptance` | can the job run as it is written? |
| `open_attempt` | where is an attempt that goes on: launched, queued, starting, at work? |
| `failures`, `failure_rules` | why did an attempt end, and whose fault was it? |
| `next_attempt`, `attempts` | may there be another, when, and on which budget? |
| `finished` | what is left to do for a job that is over or being deleted? |
| `conditions`, `progress`, `events` | what do status and events say? |
| `refusals`, `write_pacing` | what is held back for now? |

`observed` and `actions` are the types of what goes in and out, `draft` what the steps hand on.
"""
