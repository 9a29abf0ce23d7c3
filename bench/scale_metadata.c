/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The library's own memory for each GiB that is mapped, as it says itself and
 * as the process grows; segments are not touched.  All go out, come back by
 * chance and go out again, so that all the library writes is written.
 */
#include <stdio.h>
#include <stdlib.h>

#include "scale.h"

#define WHOLE_BYTES (UINT64_C(1) << 30)

static void **segments;
static unsigned count;

static void take_all(struct seg_pool *pool, size_t bytes)
{
	for (count = 0; count < WHOLE_BYTES / bytes; count++)
		if (!(segments[count] = seg_alloc(pool, bytes)))
			die("seg_alloc()");
}

static void give_all(struct seg_pool *pool)
{
	uint64_t random_state = 1;

	for (unsigned left = count; left; left--) {
		unsigned at;

		random_state = random_state * UINT64_C(6364136223846793005) + 1;
		at = (unsigned)((random_state >> 33) % left);
		if (seg_release(pool, segments[at]))
			die("seg_release()");
		segments[at] = segments[left - 1];
	}
}

/* The bound, in percent: for each slice, and for all else. */
static double most_of(size_t bytes)
{
	double most = 0.35 * SEG_MIN_BYTES / (double)bytes + 0.05;

	return most > 0.1 ? most : 0.1;
}

static void measure_class(int class_index, uint64_t region_bytes)
{
	size_t bytes = (size_t)SEG_MIN_BYTES << class_index;
	struct seg_budget *budget = new_budget(WHOLE_BYTES);
	uint64_t before = resident_bytes();
	struct seg_pool *pool = new_pool(budget, region_bytes);
	double said, real, most = most_of(bytes);

	for (int round = 0; round < 2; round++) {
		take_all(pool, bytes);
		said = 100.0 * (double)stats_of(pool).metadata_bytes /
		       (double)stats_of(pool).mapped_bytes;
		give_all(pool);
	}
	real = 100.0 * (double)(resident_bytes() - before) /
	       (double)WHOLE_BYTES;
	printf("| %zu KiB | %llu KiB | %.3f | %.3f | %.3f | %s |\n",
	       bytes / 1024, (unsigned long long)(region_bytes / 1024), said,
	       real, most, verdict(said > real ? said : real, most));
	end_pool(pool, budget);
}

void scale_metadata(void)
{
	segments = calloc(WHOLE_BYTES / SEG_MIN_BYTES, sizeof(*segments));
	if (!segments)
		die("calloc()");
	for (unsigned i = 0; i < WHOLE_BYTES / SEG_MIN_BYTES; i++)
		segments[i] = &segments[i];	/* it is resident from now on */
	printf("\n| segments | regions | metadata_bytes, %% of mapped | "
	       "resident, %% | at most | |\n|---|---|--:|--:|--:|---|\n");
	for (int c = 0; c < SEG_CLASSES; c++)
		measure_class(c, 64 << 20);
	measure_class(0, 1 << 20);
	measure_class(0, 4 << 20);
	measure_class(4, 2 << 20);
	measure_class(6, 8 << 20);
	free(segments);
}
