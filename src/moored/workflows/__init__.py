"""One file and one public function per job, with the arguments of its command."""
