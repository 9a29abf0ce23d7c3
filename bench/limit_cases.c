/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one thread does to a pool at its limit; see README.md. */
#include "limit.h"

enum {
	KIB64 = 4,		/* the classes of so many KiB */
	KIB128 = 5,
	STEP = 3,		/* from one class to a far one; prime to 7 */
	ROUNDS = 4,
};

static void fill_one(struct trial *trial, int class_index)
{
	trial_fill(trial, &class_index, 1);
}

static void each_class(struct trial *trial)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		fill_one(trial, c);
		trial_release(trial, 100);
	}
	for (int c = SEG_CLASSES; c-- > 0;) {
		fill_one(trial, c);
		trial_release(trial, 100);
	}
}

/* What stays of all classes before is spread over all regions. */
static void each_class_half_stays(struct trial *trial)
{
	for (int c = 0; c < 2 * SEG_CLASSES; c++) {
		fill_one(trial, c * STEP % SEG_CLASSES);
		trial_release(trial, 50);
	}
}

static void small_to_large(struct trial *trial)
{
	fill_one(trial, KIB64);
	trial_release(trial, 90);
	fill_one(trial, KIB128);
}

static void rotation(struct trial *trial)
{
	const int all[] = { 0, 1, 2, 3, 4, 5, 6 };

	for (int round = 0; round < ROUNDS; round++) {
		trial_fill(trial, all, SEG_CLASSES);
		trial_release(trial, 50);
	}
	trial_fill(trial, all, SEG_CLASSES);
}

static void one_per_region(struct trial *trial)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		fill_one(trial, c);
		trial_keep_one_per_region(trial);
		fill_one(trial, (c + STEP) % SEG_CLASSES);
		trial_release(trial, 100);
	}
}

const struct limit_case limit_cases[] = {
	{ "each class after another", each_class },
	{ "the same, a random half stays", each_class_half_stays },
	{ "64 KiB, 90 % back, then 128 KiB", small_to_large },
	{ "rotation of all, a random half back", rotation },
	{ "one per region stays, then another class", one_per_region },
};
const size_t limit_case_count = sizeof(limit_cases) / sizeof(*limit_cases);
