/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <netinet/in.h>
#include <seg.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
	const char *root;
	uint64_t budget_bytes;
	struct sockaddr_in address;
	unsigned threads;
	bool log_requests;
	enum seg_log_level log_level;
};

enum options_end { OPTIONS_GOOD, OPTIONS_HELP, OPTIONS_WRONG };

/* Says what is wrong on standard error, or how to use it on standard output. */
enum options_end options_read(int argc, char **argv,
			      struct options *ret_options);

#endif
