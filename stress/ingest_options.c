/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_options.h"

#include <getopt.h>
#include <seg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ingest.h"
#include "ingest_leaf.h"

/* what seg_budget_create() takes */
#define BUDGET_LEAST (UINT64_C(4) << 10)
#define BUDGET_MOST ((UINT64_C(16) << 40) - (UINT64_C(4) << 10))

static const char help[] =
"usage: ingest [option]... FILE...\n"
"Reads files as records, packs them into pages, commits the pages to a store,\n"
"reads every byte back and compares it, in segments under one memory budget.\n"
"  --budget BYTES        the limit, as in 600M (the default), 64M, 1G\n"
"  --page-cache BYTES    weight of PageCache, for fragments (budget / 8)\n"
"  --record-cache BYTES  weight of RecordPageCache, for pages (budget / 4)\n"
"  --short-reads         half of the random reads take no pin if they hit\n"
"  --writers N           threads that pack (4)\n"
"  --readers N           threads that fetch and verify (2)\n"
"  --epoch PAGES         pairs of pages that a commit has at the most (2048)\n"
"  --records-per-page N  (1024)\n"
"  --classes WHICH       fit: segments as large as needed (the default);\n"
"                        all: pages of random numbers of records up to that,\n"
"                        their segments of all classes, grown at random\n"
"  --store PATH          the page store (default: a temporary file)\n"
"  --seconds S           pass after pass over the input for S seconds\n"
"  --decay MS            an unused region goes within this time (1000)\n"
"  --wait MS             an allocate at the limit waits this long (20)\n"
"  --seed N              for all that is random (1)\n"
"  --svg PATH            writes a picture of the memory over time\n"
"  --csv PATH            writes the samples of that picture\n"
"  --overlay PATH        draws the mapped bytes of an earlier --csv over it\n"
"  --log PATH            writes the library's events\n"
"  --log-segments        these with each allocate and release (slow)\n"
"  --before              the old way, to compare: all mapped at the start\n"
"  --quiet               no progress\n";

enum { BUDGET = 256, PAGE_CACHE, RECORD_CACHE, SHORT_READS, WRITERS, READERS,
       EPOCH, RECORDS, CLASSES, STORE, SECONDS, DECAY, WAIT, SEED, SVG, CSV,
       OVERLAY, LOG, LOG_SEGMENTS, BEFORE, QUIET, HELP };

static const struct option names[] = {
	{ "budget", required_argument, NULL, BUDGET },
	{ "page-cache", required_argument, NULL, PAGE_CACHE },
	{ "record-cache", required_argument, NULL, RECORD_CACHE },
	{ "short-reads", no_argument, NULL, SHORT_READS },
	{ "writers", required_argument, NULL, WRITERS },
	{ "readers", required_argument, NULL, READERS },
	{ "epoch", required_argument, NULL, EPOCH },
	{ "records-per-page", required_argument, NULL, RECORDS },
	{ "classes", required_argument, NULL, CLASSES },
	{ "store", required_argument, NULL, STORE },
	{ "seconds", required_argument, NULL, SECONDS },
	{ "decay", required_argument, NULL, DECAY },
	{ "wait", required_argument, NULL, WAIT },
	{ "seed", required_argument, NULL, SEED },
	{ "svg", required_argument, NULL, SVG },
	{ "csv", required_argument, NULL, CSV },
	{ "overlay", required_argument, NULL, OVERLAY },
	{ "log", required_argument, NULL, LOG },
	{ "log-segments", no_argument, NULL, LOG_SEGMENTS },
	{ "before", no_argument, NULL, BEFORE },
	{ "quiet", no_argument, NULL, QUIET },
	{ "help", no_argument, NULL, HELP },
	{ NULL, 0, NULL, 0 },
};

/* Digits, then K, M or G if units are allowed. */
static bool parse_number(const char *text, bool units, uint64_t *ret)
{
	const char *unit = units ? strpbrk(text, "KMGkmg") : NULL;
	unsigned shift = !unit ? 0 : strchr("Kk", *unit) ? 10
				   : strchr("Mm", *unit) ? 20 : 30;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*ret = strtoull(text, &end, 10);
	if (*ret > UINT64_MAX >> (shift + 1) || (unit && end != unit))
		return false;
	*ret <<= shift;
	return unit ? unit[1] == '\0' : *end == '\0';
}

static bool parse_unsigned(const char *text, unsigned most, unsigned *ret)
{
	uint64_t number;

	if (!parse_number(text, false, &number) || number > most)
		return false;
	*ret = (unsigned)number;
	return true;
}

static bool parse_classes(const char *text, bool *ret_all)
{
	*ret_all = strcmp(text, "all") == 0;
	return *ret_all || strcmp(text, "fit") == 0;
}

static bool take_number(struct options *o, int option, const char *text)
{
	switch (option) {
	case BUDGET:
		return parse_number(text, true, &o->budget_bytes);
	case PAGE_CACHE:
		return parse_number(text, true, &o->page_cache_bytes) &&
		       o->page_cache_bytes;
	case RECORD_CACHE:
		return parse_number(text, true, &o->record_cache_bytes) &&
		       o->record_cache_bytes;
	case WRITERS:
		return parse_unsigned(text, 256, &o->writers) && o->writers;
	case READERS:
		return parse_unsigned(text, 256, &o->readers) && o->readers;
	case EPOCH:
		return parse_unsigned(text, 1u << 20, &o->epoch) && o->epoch;
	case RECORDS:
		return parse_unsigned(text, LEAF_RECORDS_MAX,
				      &o->records_per_page) &&
		       o->records_per_page;
	case SECONDS:
		return parse_unsigned(text, 1000000, &o->seconds) && o->seconds;
	case CLASSES:
		return parse_classes(text, &o->all_classes);
	case DECAY:
		return parse_unsigned(text, 3600000, &o->decay_ms) &&
		       o->decay_ms;
	case WAIT:
		return parse_unsigned(text, 60000, &o->wait_ms);
	default:
		return parse_number(text, false, &o->seed);
	}
}

static void take_flag(struct options *o, int option)
{
	if (option == LOG_SEGMENTS)
		o->log_segments = true;
	else if (option == SHORT_READS)
		o->short_reads = true;
	else if (option == BEFORE)
		o->before = true;
	else
		o->quiet = true;
}

static const char **path_of(struct options *o, int option)
{
	switch (option) {
	case STORE:
		return &o->store;
	case SVG:
		return &o->svg;
	case CSV:
		return &o->csv;
	case OVERLAY:
		return &o->overlay;
	case LOG:
		return &o->log;
	default:
		return NULL;
	}
}

static bool take_option(struct options *o, int option)
{
	const char **path = path_of(o, option);

	if (names[option - BUDGET].has_arg == no_argument)
		take_flag(o, option);
	else if (path)
		*path = optarg;
	else if (!take_number(o, option, optarg)) {
		fprintf(stderr, "ingest: --%s: not a good value: %s\n",
			names[option - BUDGET].name, optarg);
		return false;
	}
	return true;
}

/*
 * What one writer can need at once with nobody else there: three fragments
 * and two pages, each of these growing.  Twice that, as regions are larger
 * than a segment.
 */
static uint64_t least_budget(const struct options *o)
{
	uint64_t ids = sizeof(struct leaf_head) +
		       o->records_per_page * sizeof(struct leaf_id);
	uint64_t page = o->all_classes ? 3 * SEG_MAX_BYTES :
			SEG_MAX_BYTES + SEG_MAX_BYTES / 2 + 2 * ids;
	uint64_t least = 2 * (FRAGMENTS_MAX * SEG_MAX_BYTES + 2 * page);

	/* the model has a seventh for each class */
	return o->before ? SEG_CLASSES * least : least;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* The directory of a path; the rest of it is what it gives. */
static const char *split(const char *path, char *dir, size_t room)
{
	const char *slash = strrchr(path, '/');
	size_t bytes = slash ? (size_t)(slash - path) + 1 : 0;

	snprintf(dir, room, "%.*s", (int)bytes, bytes ? path : "");
	return path + bytes;
}

/* The same regular file, or it will be when both are made. */
static bool same_output(const char *a, const char *b)
{
	char dir_a[4096], dir_b[4096];
	const char *name_a = split(a, dir_a, sizeof(dir_a));
	const char *name_b = split(b, dir_b, sizeof(dir_b));
	struct stat st;

	if (stat(a, &st) == 0)
		return S_ISREG(st.st_mode) && same_file(a, b);
	return strcmp(name_a, name_b) == 0 &&
	       same_file(*dir_a ? dir_a : ".", *dir_b ? dir_b : ".");
}

static bool refuse(const char *name, const char *what)
{
	fprintf(stderr, "ingest: %s: %s\n", name, what);
	return false;
}

/* An output must not be an input: opening it would empty it. */
static bool check_output(const struct options *o, const char *name)
{
	unsigned i;

	for (i = 0; i < o->file_count; i++)
		if (same_file(name, o->files[i]))
			return refuse(name, "is an input");
	if (o->overlay && same_file(name, o->overlay))
		return refuse(name, "is the --overlay");
	return true;
}

static bool check_outputs(const struct options *o)
{
	const char *outputs[] = { o->store, o->svg, o->csv, o->log,
				  "/dev/stdout" };
	size_t i, k, count = sizeof(outputs) / sizeof(outputs[0]);

	for (i = 0; i < count - 1; i++) {
		if (!outputs[i])
			continue;
		if (!check_output(o, outputs[i]))
			return false;
		for (k = i + 1; k < count; k++)
			if (outputs[k] && same_output(outputs[i], outputs[k]))
				return refuse(outputs[i],
					      "is named for two outputs");
	}
	return true;
}

static bool check_budget(const struct options *o)
{
	unsigned long long least = least_budget(o);

	if (o->budget_bytes < BUDGET_LEAST || o->budget_bytes > BUDGET_MOST)
		return refuse("--budget", "out of range (4 KiB to 16 TiB - "
			      "4 KiB)");
	if (o->budget_bytes >= least)
		return true;
	fprintf(stderr, "ingest: --budget: at least %llu bytes are needed for "
		"%u records a page\n", least, o->records_per_page);
	return false;
}

static bool check_caches(const struct options *o)
{
	if (o->page_cache_bytes < SEG_MIN_BYTES ||
	    o->page_cache_bytes > BUDGET_MOST)
		return refuse("--page-cache", "out of range (4 KiB to 16 TiB - "
			      "4 KiB)");
	if (o->record_cache_bytes < SEG_MIN_BYTES ||
	    o->record_cache_bytes > BUDGET_MOST)
		return refuse("--record-cache", "out of range (4 KiB to 16 TiB "
			      "- 4 KiB)");
	return true;
}

static bool check(const struct options *o)
{
	if (!o->file_count) {
		fprintf(stderr, "ingest: no file is named; see --help\n");
		return false;
	}
	if (o->before && o->short_reads)
		return refuse("--short-reads", "was not to be had --before");
	return check_budget(o) && check_caches(o) && check_outputs(o);
}

/* May be more than the budget: the limit makes them give back. */
static void set_defaults(struct options *o)
{
	if (!o->page_cache_bytes)
		o->page_cache_bytes = o->budget_bytes / 8;
	if (!o->record_cache_bytes)
		o->record_cache_bytes = o->budget_bytes / 4;
}

bool options_parse(struct options *ret, int argc, char **argv, int *ret_status)
{
	int option;

	*ret_status = 2;
	*ret = (struct options){
		.budget_bytes = UINT64_C(600) << 20,
		.writers = 4,
		.readers = 2,
		.epoch = 2048,
		.records_per_page = 1024,
		.decay_ms = 1000,
		.wait_ms = 20,
		.seed = 1,
	};
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option == HELP) {
			fputs(help, stdout);
			*ret_status = 0;
			return false;
		}
		if (option == '?' || !take_option(ret, option))
			return false;
	}
	ret->files = argv + optind;
	ret->file_count = (unsigned)(argc - optind);
	set_defaults(ret);
	return check(ret);
}
