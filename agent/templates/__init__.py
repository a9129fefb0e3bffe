"""How do the templates of a node's tasks get their answers, and what becomes of what they say?

    task_templates.py ──Read──> watching.py ──> consul.py ──> catalog/lookups.py      one question for all who ask it
           │                              └──> a task's own reads of Vault
           ├──> files.py        destinations, sources: never outside of the alloc's directory
           └──> env_file.py     `env = true`
"""
