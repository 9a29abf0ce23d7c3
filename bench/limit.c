/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much of a budget can be used, and how long it takes to be served at its
 * limit.  Prints Markdown; exit status 1: a bar was missed, 2: wrong usage.
 * README.md says what the cases and columns are.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "limit.h"

enum {
	LEAST_PERCENT = 98,	/* in the callers' hands at a refusal */
	BUDGETS_MOST = 16,
	CLOCK_CALLS = 1000,
};

static struct {
	uint64_t budgets[BUDGETS_MOST];
	unsigned count;
	uint64_t seed;
	enum touch touch;
} options = {
	.budgets = { 64 << 20, 600 << 20, 1 << 30 },
	.count = 3,
	.seed = 1,
};

static bool missed;

/* ---------------------------------------------------------------- output */

static double percent(uint64_t part, uint64_t whole)
{
	return 100.0 * (double)part / (double)whole;
}

static double kib(uint64_t bytes)
{
	return (double)bytes / 1024;
}

/* What is missed is said on the row, and at the end by the exit status. */
static const char *verdict(bool good)
{
	missed |= !good;
	return good ? "yes" : "**no**";
}

static bool is_used(const struct refused *refused, uint64_t limit)
{
	return refused->count && !refused->unnamed && !refused->needless &&
	       refused->active * 100 >= limit * LEAST_PERCENT;
}

static void print_use_head(void)
{
	printf("\n### Bytes in the callers' hands at the worst refusal\n\n"
	       "| case | budget, MiB | refusals | at once | after %d ms | "
	       "needless | missing, KiB: unused | deferred | room | not named "
	       "| charged at the most | decommitted, MiB | metadata, KiB | "
	       "good |\n"
	       "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
	       LIMIT_WAIT_MS);
}

static void print_use(const char *name, const struct trial *t, bool good)
{
	const struct refused *r = &t->at_once;

	printf("| %s | %" PRIu64 " | %" PRIu64 " | %.2f %% | %.2f %% | %"
	       PRIu64 " | %.0f | %.0f | %.0f | %.0f | %.2f %% | %.1f | "
	       "%.0f | %s |\n", name, t->limit >> 20, r->count,
	       percent(r->active, t->limit),
	       percent(t->waited.active, t->limit),
	       r->needless + t->waited.needless, kib(r->unused),
	       kib(r->deferred), kib(r->room),
	       kib(r->unnamed + t->waited.unnamed),
	       percent(t->most_charged, t->limit),
	       (double)r->decommitted / 1048576, kib(r->metadata),
	       verdict(good && is_used(r, t->limit) &&
		       is_used(&t->waited, t->limit) &&
		       t->most_charged <= t->limit));
}

struct time_row {
	const char *name;
	uint64_t limit;
	size_t served;
	double median, p99, p999, longest, refusal;
};

static void print_times(const struct time_row *rows, size_t count)
{
	printf("\n### Time to serve, microseconds\n\n| case | budget, MiB | "
	       "allocations | median | 99 %% | 99.9 %% | longest | longest "
	       "refusal at once |\n|---|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < count; i++)
		printf("| %s | %" PRIu64 " | %zu | %.2f | %.2f | %.1f | %.0f | "
		       "%.0f |\n", rows[i].name, rows[i].limit >> 20,
		       rows[i].served, rows[i].median, rows[i].p99,
		       rows[i].p999, rows[i].longest, rows[i].refusal);
}

static struct time_row time_row_of(const char *name, struct trial *t)
{
	times_sort(&t->times);
	times_sort(&t->refusals);
	return (struct time_row){
		.name = name,
		.limit = t->limit,
		.served = t->times.count,
		.median = times_at(&t->times, 5000) / 1e3,
		.p99 = times_at(&t->times, 9900) / 1e3,
		.p999 = times_at(&t->times, 9990) / 1e3,
		.longest = times_at(&t->times, 10000) / 1e3,
		.refusal = times_at(&t->refusals, 10000) / 1e3,
	};
}

static void run_case(const struct limit_case *one, uint64_t limit,
		     struct time_row *ret_row)
{
	struct trial trial;

	trial_open(&trial, limit, options.seed, options.touch);
	one->run(&trial);
	*ret_row = time_row_of(one->name, &trial);
	print_use(one->name, &trial, trial_close(&trial));
}

static void run_cases(void)
{
	size_t count = limit_case_count * options.count, n = 0;
	struct time_row *rows = calloc(count, sizeof(*rows));

	if (!rows)
		bench_die("out of memory");
	print_use_head();
	for (size_t i = 0; i < limit_case_count; i++)
		for (unsigned b = 0; b < options.count; b++)
			run_case(&limit_cases[i], options.budgets[b],
				 &rows[n++]);
	print_times(rows, count);
	free(rows);
}

/* Who does not wait may be overtaken at each try: it is refused then. */
static void run_cache(uint64_t limit, int wait_ms)
{
	struct cache_trial t;
	bool good;

	cache_trial_run(&t, limit, wait_ms, options.seed);
	times_sort(&t.times);
	good = !(t.refusals && wait_ms >= 0) && !t.wrong &&
	       t.most_charged <= limit && is_used(&t.at_once, limit);
	printf("| %" PRIu64 " | %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64
	       " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %.2f | %.0f | "
	       "%.0f | %.1f %% | %.2f %% | %.2f %% | %s |\n", limit >> 20,
	       wait_ms < 0 ? "no" : "yes", t.keys, t.hits, t.loads, t.reclaimed,
	       t.refusals, t.waits, times_at(&t.times, 5000) / 1e3,
	       times_at(&t.times, 9900) / 1e3,
	       times_at(&t.times, 10000) / 1e3, 100 * t.mean_active,
	       percent(t.most_charged, limit),
	       percent(t.at_once.active, limit), verdict(good));
	times_free(&t.times);
}

static void run_caches(void)
{
	printf("\n### Eight threads want 1.5 times the budget, with a cache "
	       "above\n\n| budget, MiB | waits allowed | pages | hits | pages "
	       "made | reclaimed | refusals | waits | median, us | 99 %% | "
	       "longest | active, mean | charged at the most | then one takes "
	       "all | good |\n"
	       "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
	       "\n");
	for (unsigned b = 0; b < options.count; b++) {
		run_cache(options.budgets[b], 0);
		run_cache(options.budgets[b], SEG_NO_WAIT);
	}
}

/* ----------------------------------------------------------------- usage */

_Noreturn static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: limit [--budget MIB,...] [--seed N] [--touch WHICH] "
		"[--cpu]\n"
		"  --budget   limits in MiB, 1 to 1048576 (64,600,1024)\n"
		"  --seed     of all that is random (1)\n"
		"  --touch    first: a byte of each segment is written (the "
		"default);\n             all: a byte of each 4 KiB\n"
		"  --cpu      times are CPU time of the thread; waiting is "
		"none\n");
	exit(status);
}

static uint64_t number_in(const char **text, uint64_t most)
{
	char *end;
	uint64_t number;

	if (**text < '0' || **text > '9')
		usage(2);
	number = strtoull(*text, &end, 10);
	if (number > most)
		usage(2);
	*text = end;
	return number;
}

static void take_budgets(const char *text)
{
	options.count = 0;
	for (;; text++) {
		uint64_t mib = number_in(&text, 1 << 20);

		if (!mib || options.count == BUDGETS_MOST)
			usage(2);
		options.budgets[options.count++] = mib << 20;
		if (*text != ',')
			break;
	}
	if (*text)
		usage(2);
}

static void take_touch(const char *text)
{
	if (!strcmp(text, "all"))
		options.touch = TOUCH_ALL;
	else if (strcmp(text, "first"))
		usage(2);
}

static void take_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "budget", required_argument, NULL, 'b' },
		{ "seed", required_argument, NULL, 's' },
		{ "touch", required_argument, NULL, 't' },
		{ "cpu", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		const char *text = optarg;

		if (option == 'b')
			take_budgets(text);
		else if (option == 's')
			options.seed = number_in(&text, UINT64_MAX);
		else if (option == 't')
			take_touch(text);
		else if (option == 'c')
			bench_clock = CLOCK_THREAD_CPUTIME_ID;
		else
			usage(option == 'h' ? 0 : 2);
		if (option == 's' && *text)
			usage(2);
	}
	if (optind != argc)
		usage(2);
}

/* It is in each time. */
static double clock_ns(void)
{
	uint64_t since = bench_ns(bench_clock);

	for (int i = 0; i < CLOCK_CALLS; i++)
		bench_ns(bench_clock);
	return (double)(bench_ns(bench_clock) - since) / CLOCK_CALLS;
}

int main(int argc, char **argv)
{
	take_options(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("## libseg %s at its limit, %ld cores, seed %" PRIu64 "\n\n"
	       "Written to: a byte in each %s.  Times are of the %s,\n"
	       "whose own %.0f ns are in each.\n", seg_version(),
	       sysconf(_SC_NPROCESSORS_ONLN), options.seed,
	       options.touch == TOUCH_ALL ? "4 KiB" : "segment",
	       bench_clock == CLOCK_MONOTONIC ? "clock" : "thread's CPU",
	       clock_ns());
	run_cases();
	run_caches();
	printf("\n%s: at each refusal at least %d %% in the callers' hands, "
	       "the rest named, less than\nwhat was refused; never more "
	       "charged than the limit; with a cache above, no refusal\n"
	       "of who waits\n",
	       missed ? "MISSED" : "Held", LEAST_PERCENT);
	return missed;
}
