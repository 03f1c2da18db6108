"""Run chosen sections of the Autobahn testsuite against one server. For Python 2.7, which the suite needs.

    fuzzing_client.py PACKAGES URL REPORT SECTION...

PACKAGES is the folder that the suite was installed into. REPORT, an existing folder, receives `chosen.json`
(the ids of the cases of the SECTIONs), `index.json` (id to outcome) and a page per case. A run that is ended
by SIGTERM reports what it has. The syntax is also Python 3's, for the linters.
"""

import json
import os
import site
import sys

packages, url, report = sys.argv[1:4]
sections = sys.argv[4:]

# addsitedir reads the .pth files that make zope a namespace; the suite goes before what else is installed.
others = set(sys.path)
site.addsitedir(packages)
sys.path.sort(key=lambda entry: entry in others)

from autobahntestsuite import case, fuzzing  # noqa: E402 - also installs the reactor
from twisted.internet import reactor  # noqa: E402

AGENT = "fastws"


class Client(fuzzing.FuzzingClientFactory):
    """The suite's client, but the report is written once the reactor has ended, for whatever reason."""

    def createReports(self):
        pass


# The suite's own patterns match more than they say ("1.*" takes 10.1.1 too), so it gets plain ids.
known = [cls.__name__[len(case.CaseBasename) :].replace("_", ".") for cls in case.Cases]
chosen = [name for name in known if name.split(".")[0] in sections]
if not chosen:
    # With nothing to do the suite waits for ever.
    sys.exit("no case is in section " + ", ".join(sections))
with open(os.path.join(report, "chosen.json"), "w") as f:
    json.dump(chosen, f)

client = Client({"outdir": report, "servers": [{"agent": AGENT, "url": url}], "cases": chosen})
reactor.run()
fuzzing.FuzzingClientFactory.createReports(client)
