"""Where processes live: this machine (`local`), or one at the other end of a wire."""
