"""HCL2 as text: a scanner, a parser and the tree they make. Knows nothing of jobs.

    text --scanner--> tokens --parser--> Body(attributes, blocks) of expression nodes

The parser is our own: docs/design/002-hcl2-parser.md says why. Meaning (variables, functions,
conversion) is `jobspec.evaluate`'s; which names are allowed is `jobspec.schema`'s.
"""
