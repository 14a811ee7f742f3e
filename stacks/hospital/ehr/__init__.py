"""The record (`ehr`): two nodes over one database pair; carers read charts and enter orders here.

    __main__.py   runs it            service.py   how the parts fit together, health
    reading.py    HTTP reads         writing.py   HTTP writes     asked.py  headers, parameters
    inbound.py    ADT and ORU from the engine
    orders.py     order → OML        outbox.py    orders on their way to the engine
    store.py      resources in SQL   reports.py   versions, feed, critical inbox
    pair.py       who is primary     node.py      one database node and its connections
    schema.sql, schema.py            the tables and their migrations

It refuses to acknowledge what is not committed on the primary and confirmed by the standby.
"""
