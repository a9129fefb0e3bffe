"""Does drover keep its promises when everything around it breaks?

A whole cluster in one thread, on a virtual clock, from one seed. Nothing of production is patched: what
a process touches outside (Consul, driver, journal, clock, heartbeat) is handed in, as cli/process.py does.

    world.py      the cluster: Consul, machines, users' commands; heals, and waits for convergence
      machine.py  one machine: its Consul agent, its engine, its disk, its drover process
      wire.py     the way to Consul, with what can happen on it
      disk.py     the journal that a kill cuts short
      driver.py   the engine: tasks that outlive the agent
    faults.py     what breaks, and when
    workload.py   what users ask for
    checkers.py   outside observers of what must never happen
    converged.py  what must be so in the end
    clock.py      virtual time; a frozen process

Replay one seed: python -m tests.sim --seed N
"""
