"""Runs the command line of the OpenSSF reference implementation (model_signing) many times in one process.

Standard input: a JSON list of argument lists. Standard output: a JSON list of [exit code, what it said].
"""

import contextlib
import io
import json
import sys

from model_signing._cli import main


def run(arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main.main(args=arguments, prog_name="model_signing", standalone_mode=True)
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
    return [code, said.getvalue()]


print(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]))
