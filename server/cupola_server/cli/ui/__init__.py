"""What commands share to talk to the user: tables, progress bars and the chat terminal.

Commands import these modules. rich and prompt_toolkit are imported only when they are used, because they are slow to
import.
"""
