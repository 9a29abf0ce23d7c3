/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 8080
#define DEFAULT_BUDGET (UINT64_C(64) << 20)
#define LEAST_BUDGET (UINT64_C(1) << 20)	/* the largest page */
#define MOST_THREADS 256

static void usage(FILE *to)
{
	fputs("usage: seg-server --root FOLDER [--budget 64M] [--port 8080] "
	      "[--threads 4]\n"
	      "                  [--bind 127.0.0.1] "
	      "[--log off|error|request|region|evict]\n", to);
}

static bool read_number(const char *text, uint64_t least, uint64_t most,
			uint64_t *ret)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;
	unsigned shift = 0;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || errno)
		return false;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
	}
	if (*end || *ret > most >> shift)
		return false;
	*ret <<= shift;
	return *ret >= least;
}

/* Each level includes those before it. */
static bool read_log(const char *text, struct options *options)
{
	static const struct {
		const char *name;
		bool requests;
		enum seg_log_level level;
	} levels[] = {
		{ "off", false, SEG_LOG_OFF },
		{ "error", false, SEG_LOG_ERROR },
		{ "request", true, SEG_LOG_ERROR },
		{ "region", true, SEG_LOG_REGION },
		{ "evict", true, SEG_LOG_EVICT },
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (!strcmp(text, levels[i].name)) {
			options->log_requests = levels[i].requests;
			options->log_level = levels[i].level;
			return true;
		}
	return false;
}

/* What each option takes, where that is no free text. */
static const char *values_of(int option)
{
	switch (option) {
	case 'b': return "--budget: 1M to 1024G, as a number with K, M or G";
	case 'p': return "--port: 0 to 65535";
	case 't': return "--threads: 1 to 256";
	case 'a': return "--bind: an IPv4 address";
	default: return "--log: off, error, request, region or evict";
	}
}

static bool read_option(int option, const char *text, struct options *options)
{
	uint64_t number;

	switch (option) {
	case 'r':
		options->root = text;
		return true;
	case 'b':
		if (!read_number(text, LEAST_BUDGET, UINT64_C(1) << 40,
				 &number))
			return false;
		options->budget_bytes = number / SEG_MIN_BYTES * SEG_MIN_BYTES;
		return true;
	case 'p':
		if (!read_number(text, 0, UINT16_MAX, &number))
			return false;
		options->address.sin_port = htons((uint16_t)number);
		return true;
	case 't':
		if (!read_number(text, 1, MOST_THREADS, &number))
			return false;
		options->threads = (unsigned)number;
		return true;
	case 'a':
		return inet_pton(AF_INET, text,
				 &options->address.sin_addr) == 1;
	default:
		return read_log(text, options);
	}
}

/* getopt_long() has said what is wrong with what it does not know. */
enum options_end options_read(int argc, char **argv, struct options *ret)
{
	static const struct option names[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "budget", required_argument, NULL, 'b' },
		{ "port", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 't' },
		{ "bind", required_argument, NULL, 'a' },
		{ "log", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	int option;

	*ret = (struct options){
		.budget_bytes = DEFAULT_BUDGET, .threads = 4,
		.log_level = SEG_LOG_ERROR,
		.address = { .sin_family = AF_INET,
			     .sin_port = htons(DEFAULT_PORT),
			     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
	};
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
		if (option == 'h') {
			usage(stdout);
			return OPTIONS_HELP;
		} else if (option == '?') {
			usage(stderr);
			return OPTIONS_WRONG;
		} else if (!read_option(option, optarg, ret)) {
			fprintf(stderr, "seg-server: not %s: %s\n", optarg,
				values_of(option));
			return OPTIONS_WRONG;
		}
	if (!ret->root || optind != argc) {
		usage(stderr);
		return OPTIONS_WRONG;
	}
	return OPTIONS_GOOD;
}
