"""The gateway: broker, ingest, store, orders, HTTP API, page and upstream of a group of meters.

One process. `service.Gateway` wires everything; each module says what it owns. Arrows: cli ->
service -> (api, upstream, desk, ingest) -> (orders, meters) -> store -> clock. `transport` is the
only importer of paho. Of the firmware, only `firmware.link.codec`, `firmware.credit` and
`firmware.core` are used.
Tests: `pytest host_tests/gateway host_tests/web`.
"""
