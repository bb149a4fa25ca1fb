"""A group whose `list` goes by `ls` as well, which the help need not say."""

import click


class ListingGroup(click.Group):
    """Takes `ls` for `list`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)
