/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef INGEST_OPTIONS_H
#define INGEST_OPTIONS_H

#include <stdbool.h>

struct options;

/*
 * Fills *ret from the command line.  False: there is a message on stderr, or
 * the help on stdout, and *ret_status is what to exit with.
 */
bool options_parse(struct options *ret, int argc, char **argv,
		   int *ret_status);

#endif
