/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether what the library does costs the same with much of everything:
 * regions, threads, memory nodes; and how much memory it needs for itself.
 * Prints Markdown; README.md says what the rows are.  Exit status 1 if a bar is
 * missed.
 */
#define _GNU_SOURCE
#include "scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	unsigned columns, first;
	bool missed;
} out;

_Noreturn void die(const char *what)
{
	fprintf(stderr, "bench/scale: %s\n", what);
	exit(1);
}

/* ------------------------------------------------------------------ figures */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t thread_ns(void)
{
	return now_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t process_ns(void)
{
	return now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%*u %lu", &pages) != 1)
		die("/proc/self/statm");
	fclose(file);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

double least_ns(double before, run_fn *run, void *ctx, unsigned n)
{
	uint64_t begin = thread_ns();
	double each;

	run(ctx, n);
	each = (double)(thread_ns() - begin) / n;
	return before > 0 && before < each ? before : each;
}

/* -------------------------------------------------------------------- pools */

struct seg_pool_stats stats_of(struct seg_pool *pool)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	if (seg_pool_stats(pool, SEG_ALL, SEG_ALL, &s))
		die("seg_pool_stats()");
	return s;
}

struct seg_budget *new_budget(uint64_t bytes)
{
	struct seg_budget_options o = { .size = sizeof(o),
					.limit_bytes = bytes };
	struct seg_budget *budget;

	if (seg_budget_create(&o, &budget))
		die("seg_budget_create()");
	return budget;
}

struct seg_pool *new_pool(struct seg_budget *budget, uint64_t region_bytes)
{
	struct seg_pool_options o = {
		.size = sizeof(o), .budget = budget,
		.region_bytes = region_bytes, .wait_ms = SEG_NO_WAIT,
		.decay_ms = 3600 * 1000,
	};
	struct seg_pool *pool;

	if (seg_pool_create(&o, &pool))
		die("seg_pool_create()");
	return pool;
}

void end_pool(struct seg_pool *pool, struct seg_budget *budget)
{
	if (seg_pool_destroy(pool) || seg_budget_destroy(budget))
		die("something is left");
}

/* ------------------------------------------------------------------- tables */

void table_begin(const char *head, const char *const *columns, unsigned count,
		 unsigned first)
{
	out.columns = count;
	out.first = first;
	printf("\n| %s | |", head);
	for (unsigned i = 0; i < count; i++)
		printf(" %s |", columns[i]);
	printf(" most / %s | |\n|---|---|", columns[first]);
	for (unsigned i = 0; i < count; i++)
		printf("--:|");
	printf("--:|---|\n");
}

const char *verdict(double figure, double most)
{
	out.missed |= figure > most;
	return figure > most ? "**MISS**" : "PASS";
}

static void print_figure(double figure)
{
	printf(figure < 10 ? " %.1f |" : " %.0f |", figure);
}

void table_row(const char *name, const char *unit, const double *figures,
	       bool judged)
{
	double most = figures[out.first];

	printf("| %s | %s |", name, unit);
	for (unsigned i = 0; i < out.columns; i++) {
		print_figure(figures[i]);
		if (i > out.first && figures[i] > most)
			most = figures[i];
	}
	most /= figures[out.first];
	printf(" %.2f | %s |\n", most,
	       judged ? verdict(most, FLAT_MOST) : "");
	fflush(stdout);
}

void measure(const char *name, run_fn *run, void *const *ctx, unsigned n,
	     bool spread)
{
	double ns[COLUMNS_MOST] = { 0 }, steps[COLUMNS_MOST] = { 0 };

	for (int round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < out.columns; i++)
			ns[i] = least_ns(ns[i], run, ctx[i], n);
	for (unsigned i = 0; i < out.columns; i++)
		steps[i] = steps_of(run, ctx[i], COUNTED);
	table_row(name, "ns", ns, !spread);
	if (steps[0] > 0)
		table_row(name, "instructions", steps, true);
}

/* --------------------------------------------------------------------- main */

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "regions", scale_regions },
	{ "threads", scale_threads },
	{ "nodes", scale_nodes },
	{ "metadata", scale_metadata },
};
enum { PARTS = sizeof(parts) / sizeof(*parts) };

static bool wanted(const char *name, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(name, names[i]))
			return true;
	return count == 0;
}

int main(int argc, char **argv)
{
	steps_begin();
	printf("# scale\n\nCPU time, the least of %d rounds; flat: at most "
	       "%.1f times.\n", ROUNDS, FLAT_MOST);
	for (int i = 0; i < PARTS; i++)
		if (wanted(parts[i].name, argc - 1, argv + 1))
			parts[i].run();
	return out.missed;
}
