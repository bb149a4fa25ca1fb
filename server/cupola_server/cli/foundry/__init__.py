"""The `foundry` program: the command line of Foundry Local 0.8 on top of Cupola's engine and service.

Scripts, wrappers and SDKs parse its output, so its output must not change. New features belong in `cupola`.
`cupola_server.cli.main` runs this program when it was started as `foundry`.
"""
