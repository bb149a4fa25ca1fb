"""The program `foundry`: the command line of Foundry Local 0.8, word for word, over Cupola's engine and service.

Scripts, wrappers and SDKs read what it prints, so what it prints does not change. What is new goes into `cupola`.
`cupola_server.cli.main` hands over to it when the program is called `foundry`.
"""
