"""The subcommands of ``sam-composer eval``, by what they measure."""
