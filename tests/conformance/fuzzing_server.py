"""Serve chosen sections of the Autobahn testsuite to one client. For Python 2.7, which the suite needs.

    fuzzing_server.py PACKAGES REPORT MESSAGES SECTION...

Prints its port, then serves until SIGTERM. The rest is as for fuzzing_client.py; a client asks for
/getCaseCount, for /runCase?case=N&agent=fastws, and at the end for /updateReports?agent=fastws. The syntax is
also Python 3's, for the linters.
"""

import site
import sys

packages, report, messages = sys.argv[1:4]
sections = sys.argv[4:]
# The suite prints; our standard output is for the port.
output, sys.stdout = sys.stdout, sys.stderr

# addsitedir reads the .pth files that make zope a namespace; the suite goes before what else is installed.
others = set(sys.path)
site.addsitedir(packages)
sys.path.sort(key=lambda entry: entry in others)

from autobahntestsuite import case, fuzzing  # noqa: E402 - also installs the reactor
from cases import choose  # noqa: E402
from twisted.internet import reactor  # noqa: E402

chosen = choose(case, sections, int(messages), report)
server = fuzzing.FuzzingServerFactory({"url": "ws://127.0.0.1:9", "outdir": report, "cases": chosen})
port = reactor.listenTCP(0, server, interface="127.0.0.1").getHost().port
# It compares the Host field with this.
server.setSessionParameters(url="ws://127.0.0.1:" + str(port))
output.write(str(port) + "\n")
output.flush()
reactor.run()
