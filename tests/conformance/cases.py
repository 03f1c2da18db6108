"""Which cases of the Autobahn testsuite are run, and how long they are. For its Python 2.7.

The syntax is also Python 3's, for the linters.
"""

import json
import os


def choose(case, sections, messages, report):
    """Return the ids of the cases of `sections`, and write them to `chosen.json` in the folder `report`.

    Sections 12 and 13 exchange `messages` messages in each case, where the suite has 1000.
    """
    for group in (case.Case12_X_X, case.Case13_X_X):
        for cls in group:
            cls.DESCRIPTION = str(messages) + " messages, not " + str(cls.COUNT) + ". " + cls.DESCRIPTION
            cls.COUNT = messages
    # The suite's own patterns match more than they say ("1.*" takes 10.1.1 too), so it gets plain ids.
    known = [cls.__name__[len(case.CaseBasename) :].replace("_", ".") for cls in case.Cases]
    chosen = [name for name in known if name.split(".")[0] in sections]
    with open(os.path.join(report, "chosen.json"), "w") as f:
        json.dump(chosen, f)
    return chosen
