"""The command line ``nunet`` (``spec/platform.md`` 2, ``spec/security.md`` 6). It talks to the daemon over REST only.

:mod:`~dms.cli.main`       the entry point: help at once, every error in one line
:mod:`~dms.cli.commands`   the table of commands: nothing is imported before it is needed
:mod:`~dms.cli.root`       the global options, and the group that imports a command when it is called
:mod:`~dms.cli.session`    which node, which keys, which settings
:mod:`~dms.cli.networks`   profiles of whole networks, such as the local one of ``nunet devnet``
:mod:`~dms.cli.identity`   opening the key and the capabilities of a person
:mod:`~dms.cli.rest`       HTTP to the daemon
:mod:`~dms.cli.client`     signed messages to actors, and their verified replies
:mod:`~dms.cli.behaviours` what ``nunet actor cmd`` knows of the behaviours of a node; families of them in ``…_behaviours``
:mod:`~dms.cli.tokens`     tokens, capabilities and DIDs as people give them
:mod:`~dms.cli.decisions`  decisions about capabilities, and what would mend a denial
:mod:`~dms.cli.following`  deployments as they go on
:mod:`~dms.cli.story`      the events of a deployment, told in lines
:mod:`~dms.cli.options`    options that several commands share
:mod:`~dms.cli.times`      moments as people write them
:mod:`~dms.cli.prompts`    questions at the terminal
:mod:`~dms.cli.output`     tables, JSON, YAML
:mod:`~dms.cli.errors`     the tree of errors

All other modules are commands, named as they are called.
"""
