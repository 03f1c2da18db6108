"""Run chosen sections of the Autobahn testsuite against one server. For Python 2.7, which the suite needs.

    fuzzing_client.py PACKAGES URL REPORT MESSAGES SECTION...

PACKAGES is the folder that the suite was installed into. REPORT, an existing folder, receives `chosen.json`
(the ids of the cases of the SECTIONs, see cases.py), `index.json` (id to outcome) and a page per case. A run
that is ended by SIGTERM reports what it has. The syntax is also Python 3's, for the linters.
"""

import site
import sys

packages, url, report, messages = sys.argv[1:5]
sections = sys.argv[5:]

# addsitedir reads the .pth files that make zope a namespace; the suite goes before what else is installed.
others = set(sys.path)
site.addsitedir(packages)
sys.path.sort(key=lambda entry: entry in others)

from autobahntestsuite import case, fuzzing  # noqa: E402 - also installs the reactor
from cases import choose  # noqa: E402
from twisted.internet import reactor  # noqa: E402

AGENT = "fastws"


class Client(fuzzing.FuzzingClientFactory):
    """The suite's client, but the report is written once the reactor has ended, for whatever reason."""

    def createReports(self):
        pass


chosen = choose(case, sections, int(messages), report)
if not chosen:
    # With nothing to do the suite waits for ever.
    sys.exit("no case is in section " + ", ".join(sections))

client = Client({"outdir": report, "servers": [{"agent": AGENT, "url": url}], "cases": chosen})
reactor.run()
fuzzing.FuzzingClientFactory.createReports(client)
