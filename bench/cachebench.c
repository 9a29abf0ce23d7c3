/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Figures of libseg's cache, beside peers; see README.md.
 *
 *   cachebench [--seconds S] [--rounds N] [--threads N,...] [--entries N,...]
 *              [--only SUBJECT,...] [--rows ROW,...] [--seed N] [--cpu] [--tsv]
 *   cachebench traces FOLDER [REFERENCE.tsv]   (see cachebench_traces.c)
 *   cachebench lines
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cachebench_report.h"
#include "seg.h"

static const struct bench_subject *const subjects[BENCH_SUBJECTS] = {
	[BENCH_OURS] = &bench_seg,
	&bench_seg_pin,
	&bench_index,
	&bench_index_inlined,
	&bench_lfht,
	&bench_shards,
#ifdef BENCH_ROCKSDB
	&bench_rocksdb_lru,
	&bench_rocksdb_hcc,
#endif
	&bench_caffeine,
};

static const struct row {
	const char *name;
	enum bench_loop loop;
	unsigned keys;		/* bits 1 << enum bench_keys */
	bool evicting;
} rows[] = {
	{ "hit", LOOP_HIT, 1 << KEYS_UNIFORM | 1 << KEYS_ZIPF, false },
	{ "pin", LOOP_PIN, 1 << KEYS_UNIFORM | 1 << KEYS_ZIPF, false },
	{ "one", LOOP_HIT, 1 << KEYS_ONE, false },
	{ "onepin", LOOP_PIN, 1 << KEYS_ONE, false },
	{ "mix", LOOP_MIX, 1 << KEYS_UNIFORM | 1 << KEYS_ZIPF, true },
	{ "insert", LOOP_INSERT, 1 << KEYS_UNIFORM, true },
};
enum { ROWS = sizeof(rows) / sizeof(*rows), SIZES_MOST = 8 };

static struct {
	double seconds;
	int rounds;
	int threads[BENCH_COUNTS], counts;
	uint64_t entries[SIZES_MOST];
	int sizes;
	const char *only, *rows;
	uint64_t seed;
	bool cpu, tsv;
} options = {
	.seconds = 0.1,
	.rounds = 5,
	.threads = { 1, 2, 4, 8 },
	.counts = 4,
	.entries = { 1000, 100000 },
	.sizes = 2,
	.seed = 1,
};

static void *states[BENCH_SUBJECTS];
static bool takes_part[BENCH_SUBJECTS];
static uint64_t shuffle_state;
static int cores;

/* --------------------------------------------------------------- options */

_Noreturn static void usage(void)
{
	fprintf(stderr, "usage: cachebench [--seconds S] [--rounds N] "
		"[--threads N,...] [--entries N,...]\n"
		"                  [--only SUBJECT,...] [--rows ROW,...] "
		"[--seed N] [--cpu] [--tsv]\n"
		"       cachebench traces FOLDER [REFERENCE.tsv] [--weights]\n"
		"       cachebench lines\n");
	exit(2);
}

/* The next number of a list, from least to most. */
static uint64_t next_number(char **at, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t number;

	errno = 0;
	number = strtoull(*at, &end, 10);
	if (errno || end == *at || (*end && *end != ',') || **at == '-' ||
	    number < least || number > most)
		usage();
	*at = *end ? end + 1 : end;
	return number;
}

static uint64_t one_number(char *text, uint64_t least, uint64_t most)
{
	uint64_t number = next_number(&text, least, most);

	if (*text)
		usage();
	return number;
}

static double positive(const char *text)
{
	char *end;
	double number = strtod(text, &end);

	if (*end || !(number > 0 && number <= 3600))
		usage();
	return number;
}

static void read_threads(char *text)
{
	for (options.counts = 0; *text; options.counts++) {
		if (options.counts == BENCH_COUNTS)
			usage();
		options.threads[options.counts] =
			(int)next_number(&text, 1, BENCH_THREADS_MOST);
	}
}

static void read_entries(char *text)
{
	for (options.sizes = 0; *text; options.sizes++) {
		if (options.sizes == SIZES_MOST)
			usage();
		options.entries[options.sizes] =
			next_number(&text, 16, 100000000);
	}
}

/* Whether the name is a word of the list; all are of no list. */
static bool listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (list) {
		if (!strncmp(list, name, length) &&
		    (!list[length] || list[length] == ','))
			return true;
		list = strchr(list, ',');
		if (!list)
			return false;
		list++;
	}
	return true;
}

static void read_option(int option)
{
	switch (option) {
	case 's': options.seconds = positive(optarg); break;
	case 'n':
		options.rounds = (int)one_number(optarg, 1, BENCH_ROUNDS_MOST);
		break;
	case 't': read_threads(optarg); break;
	case 'e': read_entries(optarg); break;
	case 'o': options.only = optarg; break;
	case 'r': options.rows = optarg; break;
	case 'S': options.seed = one_number(optarg, 0, UINT64_MAX - 1); break;
	case 'c': options.cpu = true; break;
	case 'v': options.tsv = true; break;
	default: usage();
	}
}

static void read_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'n' },
		{ "threads", required_argument, NULL, 't' },
		{ "entries", required_argument, NULL, 'e' },
		{ "only", required_argument, NULL, 'o' },
		{ "rows", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'S' },
		{ "cpu", no_argument, NULL, 'c' },
		{ "tsv", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
		read_option(option);
	if (optind != argc)
		usage();
}

/* -------------------------------------------------------------- subjects */

static void choose_subjects(void)
{
	FILE *out = options.tsv ? stderr : stdout;

	for (int s = 0; s < BENCH_SUBJECTS; s++) {
		const char *why;

		if (!subjects[s] || !listed(options.only, subjects[s]->name))
			continue;
		why = subjects[s]->absent ? subjects[s]->absent() : NULL;
		takes_part[s] = !why;
		if (why)
			fprintf(out, "%s is left out: %s\n", subjects[s]->name,
				why);
	}
#ifndef BENCH_ROCKSDB
	fprintf(out, "rocksdb-lru, rocksdb-hcc are left out: built without "
		"librocksdb-dev\n");
#else
	fprintf(out, "rocksdb-hcc is the fixed table: this RocksDB has no "
		"automatic one\n");
#endif
}

/* Room for all keys however they fall on shards; none where they shall go. */
static void set_up(uint64_t entries, bool evicting)
{
	struct bench_setup setup = {
		.entries = entries,
		.capacity = evicting ? entries : entries + entries / 2,
		.evicting = evicting,
	};

	for (int s = 0; s < BENCH_SUBJECTS; s++) {
		if (!takes_part[s])
			continue;
		states[s] = subjects[s]->setup(&setup);
		if (!states[s])
			bench_die(subjects[s]->name);
		for (uint64_t i = 0; subjects[s]->put && i < entries; i++)
			subjects[s]->put(states[s], bench_key(i));
	}
}

static void tear_down(void)
{
	for (int s = 0; s < BENCH_SUBJECTS; s++)
		if (takes_part[s])
			subjects[s]->teardown(states[s]);
}

/* ------------------------------------------------------------- measuring */

static void measure(struct bench_block *block, int s, int c, int round)
{
	struct bench_run run = {
		.loop = block->loop,
		.keys = (int)block->keys,
		.threads = block->threads[c],
		.entries = block->entries,
		.seconds = options.seconds,
	};
	struct bench_result result;
	double rate;

	if (!bench_measure(subjects[s], states[s], &run, &result))
		bench_die(subjects[s]->name);
	rate = result.ops / result.wall;
	if (options.cpu)
		rate = result.ops / result.cpu *
			(run.threads < cores ? run.threads : cores);
	block->of[s].mops[c][round] = rate / 1e6;
	block->of[s].hit_ratio = result.hit_ratio;
	if (options.tsv)
		printf("%s\t%s\t%llu\t%d\t%s\t%d\t%.4f\t%.4f\n", block->row,
		       bench_keys_names[block->keys],
		       (unsigned long long)block->entries, run.threads,
		       subjects[s]->name, round, rate / 1e6, result.hit_ratio);
}

/* The same number of operations for all, so that the sets in them are alike. */
static void settle(struct bench_block *block)
{
	struct bench_run run = {
		.loop = block->loop,
		.keys = (int)block->keys,
		.threads = 1,
		.entries = block->entries,
		.most = 8 * block->entries,
	};
	struct bench_result result;

	for (int s = 0; s < BENCH_SUBJECTS; s++)
		if (block->of[s].there &&
		    !bench_measure(subjects[s], states[s], &run, &result))
			bench_die(subjects[s]->name);
}

/* All subjects at all numbers of threads, in an order drawn for each round. */
static void measure_round(struct bench_block *block, int round)
{
	int order[BENCH_SUBJECTS * BENCH_COUNTS], count = 0;

	for (int s = 0; s < BENCH_SUBJECTS; s++)
		for (int c = 0; block->of[s].there && c < block->counts; c++)
			order[count++] = s * BENCH_COUNTS + c;
	while (count) {
		int i = (int)(bench_mix(shuffle_state++) % (unsigned)count);
		int chosen = order[i];

		order[i] = order[--count];
		measure(block, chosen / BENCH_COUNTS, chosen % BENCH_COUNTS,
			round);
	}
}

static void bench_block(const struct row *row, enum bench_keys keys,
			uint64_t entries)
{
	static struct bench_block block;

	block = (struct bench_block) {
		.row = row->name,
		.loop = row->loop,
		.keys = keys,
		.entries = entries,
		.rounds = options.rounds,
		.counts = options.counts,
	};
	memcpy(block.threads, options.threads, sizeof(block.threads));
	for (int s = 0; s < BENCH_SUBJECTS; s++) {
		block.of[s].subject = subjects[s];
		block.of[s].there = takes_part[s] &&
			subjects[s]->loops >> row->loop & 1;
	}
	bench_draw(keys, entries, BENCH_THREADS_MOST, options.seed);
	if (row->evicting)
		settle(&block);
	for (int round = 0; round < options.rounds; round++)
		measure_round(&block, round);
	if (!options.tsv)
		bench_print_block(&block);
	bench_note_block(&block, cores);
}

/* The hot key needs no more than one number of entries. */
static void bench_rows(uint64_t entries, bool evicting)
{
	for (const struct row *row = rows; row < rows + ROWS; row++) {
		if (row->evicting != evicting ||
		    !listed(options.rows, row->name) ||
		    (row->keys == 1 << KEYS_ONE &&
		     entries != options.entries[0]))
			continue;
		for (int keys = 0; keys < KEYS_KINDS; keys++)
			if (row->keys >> keys & 1)
				bench_block(row, (enum bench_keys)keys,
					    entries);
	}
}

static bool wanted(bool evicting)
{
	for (const struct row *row = rows; row < rows + ROWS; row++)
		if (row->evicting == evicting &&
		    listed(options.rows, row->name))
			return true;
	return false;
}

static void print_heading(void)
{
	double load[3] = { 0 };

	if (getloadavg(load, 3) != 3)
		load[0] = -1;
	if (options.tsv) {
		printf("row\tkeys\tentries\tthreads\tsubject\tround\tmops\t"
		       "hit_ratio\n");
		return;
	}
	printf("## libseg %s, the cache, on %d cores, load %.2f at the start\n"
	       "\n%d rounds of %g s, seed %llu, by %s time\n", seg_version(),
	       cores, load[0], options.rounds, options.seconds,
	       (unsigned long long)options.seed, options.cpu ? "CPU" : "wall");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "traces"))
		return bench_traces(argc - 1, argv + 1);
	if (argc == 2 && !strcmp(argv[1], "lines"))
		return bench_lines();
	read_options(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
	shuffle_state = options.seed;
	print_heading();
	choose_subjects();
	for (int i = 0; i < options.sizes; i++)
		for (int evicting = 0; evicting < 2; evicting++) {
			if (!wanted(evicting))
				continue;
			set_up(options.entries[i], evicting);
			bench_rows(options.entries[i], evicting);
			tear_down();
		}
	if (!options.tsv)
		bench_print_summary();
	return 0;
}
