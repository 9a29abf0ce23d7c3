/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The figures of cachebench, and how they are printed. */
#ifndef CACHEBENCH_REPORT_H
#define CACHEBENCH_REPORT_H

#include "cachebench.h"

enum { BENCH_SUBJECTS = 9, BENCH_COUNTS = 4, BENCH_OURS = 0 };

/* One table: a row of the bench, a kind of keys, a number of entries. */
struct bench_block {
	const char *row;
	enum bench_loop loop;
	enum bench_keys keys;
	uint64_t entries;
	int rounds;
	int counts;			/* of numbers of threads */
	int threads[BENCH_COUNTS];
	struct {
		const struct bench_subject *subject;
		bool there;		/* takes part in this block */
		double mops[BENCH_COUNTS][BENCH_ROUNDS_MOST];
		double hit_ratio;	/* of the last measurement */
	} of[BENCH_SUBJECTS];
};

/* The median of so many values, which are left as they are. */
double bench_median(const double *values, int count);

void bench_print_block(const struct bench_block *block);

/* Remembers what the summary says of the block. */
void bench_note_block(const struct bench_block *block, int cores);
void bench_print_summary(void);

#endif
