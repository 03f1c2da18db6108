import pytest
import verdict


def outcome(behaviour="OK", closing="OK", code=1000):
    return {"behavior": behaviour, "behaviorClose": closing, "remoteCloseCode": code}


def test_ok_and_informational_outcomes_pass():
    assert (
        verdict.objections(["1.1.1", "7.1.6"], {"1.1.1": outcome(), "7.1.6": outcome("INFORMATIONAL")}) == []
    )


@pytest.mark.parametrize(
    "behaviour", ["FAILED", "NON-STRICT", "WRONG CODE", "UNIMPLEMENTED", "of a later suite"]
)
def test_any_other_behaviour_is_an_objection(behaviour):
    assert verdict.objections(["6.4.1"], {"6.4.1": outcome(behaviour)}) == [f"6.4.1: behaviour {behaviour}"]


@pytest.mark.parametrize("closing", ["FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT"])
def test_any_other_closing_behaviour_is_an_objection_that_names_the_close_code(closing):
    assert verdict.objections(["7.9.1"], {"7.9.1": outcome(closing=closing, code=1006)}) == [
        f"7.9.1: closing behaviour {closing}, close code 1006"
    ]


def test_a_chosen_case_without_an_outcome_is_an_objection():
    assert verdict.objections(["1.1.1", "1.1.2"], {"1.1.2": outcome()}) == ["1.1.1: no outcome"]


def test_no_outcome_at_all_is_an_objection_for_each_case():
    assert len(verdict.objections(["1.1.1", "1.1.2"], {})) == 2


def test_objections_come_in_the_order_of_the_case_numbers():
    found = verdict.objections(["9.10.1", "10.1.1", "9.2.1"], {})
    assert [line.split(":")[0] for line in found] == ["9.2.1", "9.10.1", "10.1.1"]


def test_counts_are_by_outcome_and_the_most_frequent_first():
    outcomes = {"1": outcome("FAILED"), "2": outcome(), "3": outcome()}
    assert list(verdict.count(outcomes, "behavior").items()) == [("OK", 2), ("FAILED", 1)]
