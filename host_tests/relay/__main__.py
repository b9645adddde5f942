"""`make relay-search`: every state that the relay's rules can reach, under several settings."""

from host_tests.relay import search

if __name__ == "__main__":
    search.run()
