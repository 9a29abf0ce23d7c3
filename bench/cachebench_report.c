/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cachebench_report.h"

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

double bench_median(const double *values, int count)
{
	double sorted[BENCH_ROUNDS_MOST];

	memcpy(sorted, values, (size_t)count * sizeof(*values));
	qsort(sorted, (size_t)count, sizeof(*sorted), compare);
	return count % 2 ? sorted[count / 2] :
		(sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* The median of what one is to the other in the same round. */
static double median_ratio(const double *over, const double *under, int rounds)
{
	double ratios[BENCH_ROUNDS_MOST];

	for (int i = 0; i < rounds; i++)
		ratios[i] = over[i] / under[i];
	return bench_median(ratios, rounds);
}

static double best(const double *values, int count)
{
	double most = values[0];

	for (int i = 1; i < count; i++)
		most = fmax(most, values[i]);
	return most;
}

static int count_at(const struct bench_block *block, int threads)
{
	for (int c = 0; c < block->counts; c++)
		if (block->threads[c] == threads)
			return c;
	return -1;
}

static double two_to_one(const struct bench_block *block, int s)
{
	int one = count_at(block, 1), two = count_at(block, 2);

	if (one < 0 || two < 0)
		return 0;
	return median_ratio(block->of[s].mops[two], block->of[s].mops[one],
			    block->rounds);
}

/* ---------------------------------------------------------------- tables */

static void print_head(const struct bench_block *block)
{
	printf("\n### %s, %s keys, %llu entries\n\n| M operations/s, median "
	       "(best) |", block->row, bench_keys_names[block->keys],
	       (unsigned long long)block->entries);
	for (int c = 0; c < block->counts; c++)
		printf(" %d thr. |", block->threads[c]);
	printf(" 2/1 | libseg to it:");
	for (int c = 0; c < block->counts; c++)
		printf(" %d |", block->threads[c]);
	printf(" hits %% |\n|---|");
	for (int c = 0; c < 2 * block->counts + 2; c++)
		printf("---:|");
	printf("\n");
}

static void print_subject(const struct bench_block *block, int s)
{
	const double (*ours)[BENCH_ROUNDS_MOST] = block->of[BENCH_OURS].mops;
	const double (*mops)[BENCH_ROUNDS_MOST] = block->of[s].mops;
	double scale = two_to_one(block, s);

	printf("| %-12s |", block->of[s].subject->name);
	for (int c = 0; c < block->counts; c++)
		printf(" %6.2f (%6.2f) |", bench_median(mops[c], block->rounds),
		       best(mops[c], block->rounds));
	printf(scale > 0 ? " %5.2f |" : "     - |", scale);
	for (int c = 0; c < block->counts; c++)
		if (block->of[BENCH_OURS].there)
			printf(" %5.2f |", median_ratio(ours[c], mops[c],
							block->rounds));
		else
			printf("     - |");
	printf(" %5.1f |\n", block->of[s].hit_ratio * 100);
}

void bench_print_block(const struct bench_block *block)
{
	print_head(block);
	for (int s = 0; s < BENCH_SUBJECTS; s++)
		if (block->of[s].there)
			print_subject(block, s);
}

/* --------------------------------------------------------------- summary */

enum { NOTES_MOST = 256 };

/* One figure of one block and number of threads. */
static struct note {
	const char *row, *other;	/* other: whom ours was compared to */
	enum bench_keys keys;
	uint64_t entries;
	int threads;			/* 0: two to one */
	double value;			/* ours / other's throughput */
} notes[NOTES_MOST];
static int noted;

static void add_note(const struct bench_block *block, const char *other,
		     int threads, double value)
{
	if (noted == NOTES_MOST)
		return;
	notes[noted++] = (struct note) {
		block->row, other, block->keys, block->entries, threads, value
	};
}

/* More threads than cores say little: they are in the tables only. */
void bench_note_block(const struct bench_block *block, int cores)
{
	const double (*ours)[BENCH_ROUNDS_MOST] = block->of[BENCH_OURS].mops;

	if (!block->of[BENCH_OURS].there)
		return;
	if (two_to_one(block, BENCH_OURS) > 0)
		add_note(block, NULL, 0, two_to_one(block, BENCH_OURS));
	for (int s = 0; s < BENCH_SUBJECTS; s++)
		for (int c = 0; c < block->counts; c++)
			if (s != BENCH_OURS && block->of[s].there &&
			    block->threads[c] <= cores)
				add_note(block, block->of[s].subject->name,
					 block->threads[c],
					 median_ratio(ours[c],
						      block->of[s].mops[c],
						      block->rounds));
}

static bool same_group(const struct note *a, const struct note *b)
{
	return !strcmp(a->row, b->row) && !a->other == !b->other &&
	       (!a->other || !strcmp(a->other, b->other));
}

/* All notes of the group of this one, which is its first. */
static void print_group(const struct note *first)
{
	const struct note *worst = first;
	double values[NOTES_MOST];
	int count = 0;

	for (const struct note *n = first; n < notes + noted; n++) {
		if (!same_group(first, n))
			continue;
		values[count++] = n->value;
		worst = n->value < worst->value ? n : worst;
		/* as the median of an array of bounded size wants it */
		if (count == BENCH_ROUNDS_MOST)
			break;
	}
	printf("| %-7s | %-14s | %5.2f | %5.2f | %s, %llu, ", first->row,
	       first->other ? first->other : "2 threads / 1",
	       bench_median(values, count), worst->value,
	       bench_keys_names[worst->keys],
	       (unsigned long long)worst->entries);
	if (worst->threads)
		printf("%d threads |", worst->threads);
	else
		printf("2 to 1 |");
	printf(" %.2f |\n", 1 / worst->value);
}

static bool group_begins(const struct note *note)
{
	for (const struct note *n = notes; n < note; n++)
		if (same_group(n, note))
			return false;
	return true;
}

void bench_print_summary(void)
{
	if (!noted)
		return;
	printf("\n### Summary: libseg's throughput to the other's, no more "
	       "threads than cores\n\n| row | to | median | worst | where | "
	       "worst, the other way round |\n|---|---|---:|---:|---|---:|\n");
	for (const struct note *n = notes; n < notes + noted; n++)
		if (group_begins(n))
			print_group(n);
}
