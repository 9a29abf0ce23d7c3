/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pin_sums.h. */
#include "pin_sums.h"

#include <string.h>

/* Into its place among the first ones, those of the greater figure first. */
static void rank(struct seg_pin_info *list, const struct seg_pin_info *info,
		 size_t member)
{
	uint64_t figure, other;
	unsigned at = SEG_PINS_MOST;

	memcpy(&figure, (const char *)info + member, sizeof(figure));
	while (at > 0) {
		memcpy(&other, (char *)&list[at - 1] + member, sizeof(other));
		if (list[at - 1].tag && other >= figure)
			break;
		if (at < SEG_PINS_MOST)
			list[at] = list[at - 1];
		at--;
	}
	if (at < SEG_PINS_MOST)
		list[at] = *info;
}

static uint64_t weight_at_most(const struct pin_sum *p)
{
	return p->sum.weight + p->lost;
}

static struct pin_sum *lightest(struct pin_sums *s)
{
	struct pin_sum *least = s->tag;

	for (unsigned i = 1; i < s->tags; i++)
		if (weight_at_most(&s->tag[i]) < weight_at_most(least))
			least = &s->tag[i];
	return least;
}

static struct pin_sum *sum_of(struct pin_sums *s, uint64_t tag)
{
	struct pin_sum *p;
	uint64_t lost = 0;

	for (unsigned i = 0; i < s->tags; i++)
		if (s->tag[i].sum.tag == tag)
			return &s->tag[i];
	if (s->tags < PIN_SUMS_TAGS) {
		p = &s->tag[s->tags++];
	} else {
		p = lightest(s);
		lost = weight_at_most(p);
	}
	*p = (struct pin_sum){ .sum.tag = tag, .lost = lost };
	return p;
}

static void add_one(void *ctx, const struct seg_pin_info *info)
{
	struct pin_sums *s = ctx;
	struct seg_tag_sum *sum = &sum_of(s, info->tag)->sum;

	s->tagged++;
	sum->pins++;
	sum->weight += info->weight;
	if (info->held_ns > sum->longest_ns)
		sum->longest_ns = info->held_ns;
	rank(s->longest, info, offsetof(struct seg_pin_info, held_ns));
	rank(s->biggest, info, offsetof(struct seg_pin_info, weight));
}

void pin_sums_add(struct pin_sums *s, struct pin_tags *t)
{
	pin_tags_each(t, add_one, s);
}

void pin_sums_heaviest(const struct pin_sums *s, struct seg_tag_sum *ret_tags)
{
	memset(ret_tags, 0, SEG_PINS_MOST * sizeof(*ret_tags));
	for (unsigned i = 0; i < s->tags; i++) {
		unsigned at = SEG_PINS_MOST;

		for (; at && ret_tags[at - 1].weight < s->tag[i].sum.weight;
		     at--)
			if (at < SEG_PINS_MOST)
				ret_tags[at] = ret_tags[at - 1];
		if (at < SEG_PINS_MOST)
			ret_tags[at] = s->tag[i].sum;
	}
}
