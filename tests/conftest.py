"""Options of the test suite. Drawn inputs take as long as they take: a busy machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser):
    """Declares what tests/conformance and tests/stress ask for."""
    parser.addoption("--conformance", action="store_true", help="run the slow cases of tests/conformance, too")
    parser.addoption("--conformance-results", metavar="FILE", help="append what each conformance case showed")
    parser.addoption("--stress", action="store_true", help="run the long tests of tests/stress at full length")
    parser.addoption("--stress-results", metavar="FILE", help="append what each stress test has counted")
