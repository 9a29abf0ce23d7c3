/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See bands.h.  A set is a tree of bits: a leaf bit for each slot, a mid bit
 * for each leaf word that is not 0, a top bit for each mid word that is not 0.
 * A bit is set from the leaf up and cleared from the leaf up; who clears an
 * inner bit looks at the word below again, and sets it again if that is no
 * longer 0.  All of it is seq_cst, since it is store here, load there on both
 * sides.
 */
#include "bands.h"

#include "os.h"

enum { FANOUT = BANDS_FANOUT };

static struct band_group *group_of(struct bands *b, uint32_t slot)
{
	uint32_t i = slot / BANDS_GROUP_SLOTS;

	/* acquire <- group_make() */
	return i < BANDS_GROUPS ? ptr_load_acquire(&b->group[i]) : NULL;
}

static struct band_group *group_make(struct bands *b, uint32_t slot)
{
	struct band_group *group = group_of(b, slot);
	void *found = NULL;

	if (group || slot / BANDS_GROUP_SLOTS >= BANDS_GROUPS)
		return group;
	group = os_map(sizeof(*group), CACHE_LINE);
	if (!group)
		return NULL;
	/* acq_rel: release -> group_of(); acquire <- the one that was first */
	if (ptr_cas_strong_acq_rel(&b->group[slot / BANDS_GROUP_SLOTS], &found,
				   group))
		return group;
	os_unmap(group, sizeof(*group));
	return found;
}

static void raise_bit(struct atomic_u64 *word, unsigned bit)
{
	uint64_t mask = (uint64_t)1 << bit;

	/* seq_cst: load after the store below, see lower_bit() */
	if (!(u64_load_seq_cst(word) & mask))
		u64_or_seq_cst(word, mask); /* seq_cst: as above */
}

/* Clears a bit that stands for the word below, if that is 0. */
static void lower_bit(struct atomic_u64 *word, unsigned bit,
		      struct atomic_u64 *below)
{
	uint64_t mask = (uint64_t)1 << bit;

	/* seq_cst: load after the clearing below, and after raise_bit() */
	if (u64_load_seq_cst(below) != 0 || !(u64_load_seq_cst(word) & mask))
		return;
	u64_and_seq_cst(word, ~mask); /* seq_cst: store before the load */
	/* seq_cst: a member that came meanwhile, see raise_bit() */
	if (u64_load_seq_cst(below) != 0)
		u64_or_seq_cst(word, mask); /* seq_cst: as raise_bit() */
}

struct path {
	struct atomic_u64 *top, *mid, *leaf;
	unsigned top_bit, mid_bit, leaf_bit;
};

static struct path path_of(struct bands *b, struct band_group *group,
			   unsigned band, uint32_t slot)
{
	uint32_t g = slot / BANDS_GROUP_SLOTS;
	uint32_t word = slot / FANOUT % FANOUT;

	return (struct path){
		.top = &b->top[band][g / FANOUT],
		.top_bit = g % FANOUT,
		.mid = &group->set[band].mid,
		.mid_bit = word,
		.leaf = &group->set[band].leaf[word],
		.leaf_bit = slot % FANOUT,
	};
}

static void set_add(struct path p)
{
	raise_bit(p.leaf, p.leaf_bit);
	raise_bit(p.mid, p.mid_bit);
	raise_bit(p.top, p.top_bit);
}

static void set_trim(struct path p)
{
	lower_bit(p.mid, p.mid_bit, p.leaf);
	lower_bit(p.top, p.top_bit, p.mid);
	/* seq_cst: the mid bit may have come back behind the top one */
	if (u64_load_seq_cst(p.mid) != 0)
		raise_bit(p.top, p.top_bit);
}

/* True for the one caller that took the member out. */
static bool set_remove(struct path p)
{
	uint64_t mask = (uint64_t)1 << p.leaf_bit;

	/* seq_cst: as raise_bit() */
	if (!(u64_load_seq_cst(p.leaf) & mask))
		return false;
	/* seq_cst: store before the load of the region word */
	if (!(u64_and_seq_cst(p.leaf, ~mask) & mask))
		return false;
	set_trim(p);
	return true;
}

bool bands_has(struct bands *b, unsigned band, uint32_t slot)
{
	struct path p = path_of(b, group_of(b, slot), band, slot);

	/* seq_cst: see raise_bit() */
	return u64_load_seq_cst(p.leaf) >> p.leaf_bit & 1;
}

/* The lowest bit of a word from a bit on, or FANOUT. */
static unsigned lowest_from(uint64_t word, unsigned from)
{
	word = from < FANOUT ? word >> from << from : 0;
	return word ? (unsigned)__builtin_ctzll(word) : FANOUT;
}

/* The first member of a group from a slot (of the group) on. */
static uint32_t next_in_group(struct band_group *group, unsigned band,
			      uint32_t from)
{
	/* seq_cst: see raise_bit() */
	uint64_t mid = u64_load_seq_cst(&group->set[band].mid);
	unsigned m = from / FANOUT;

	while ((m = lowest_from(mid, m)) < FANOUT) {
		/* seq_cst: see raise_bit() */
		uint64_t leaf = u64_load_seq_cst(&group->set[band].leaf[m]);
		unsigned l = lowest_from(leaf, m == from / FANOUT ?
						       from % FANOUT : 0);

		if (l < FANOUT)
			return m * FANOUT + l;
		m++;
	}
	return BANDS_GROUP_SLOTS;
}

static unsigned next_group(struct bands *b, unsigned band, unsigned from)
{
	for (unsigned t = from / FANOUT; t < BANDS_TOP_WORDS; t++) {
		/* seq_cst: see raise_bit() */
		uint64_t top = u64_load_seq_cst(&b->top[band][t]);
		unsigned g;

		if (!top)
			continue;
		g = lowest_from(top, t == from / FANOUT ? from % FANOUT : 0);
		if (g < FANOUT)
			return t * FANOUT + g;
	}
	return BANDS_GROUPS;
}

uint32_t bands_next(struct bands *b, unsigned band, uint32_t from)
{
	unsigned first = from / BANDS_GROUP_SLOTS;
	unsigned g = first;

	while ((g = next_group(b, band, g)) < BANDS_GROUPS) {
		uint32_t slot = next_in_group(
			group_of(b, g * BANDS_GROUP_SLOTS), band,
			g == first ? from % BANDS_GROUP_SLOTS : 0);

		if (slot < BANDS_GROUP_SLOTS)
			return g * BANDS_GROUP_SLOTS + slot;
		g++;
	}
	return UINT32_MAX;
}

static uint32_t free_slices(const struct region *r, uint64_t word)
{
	return word_unused(word) + region_cold(r);
}

/* A moment's sum of two words may be more than there are. */
unsigned bands_of(const struct region *r, uint64_t word)
{
	uint32_t free = free_slices(r, word);

	if (word_retired(word) || word_unused(word) == 0)
		return BAND_NONE;
	if (free >= r->slices)
		return BAND_SPARE;
	return (free - 1) * 4 / r->slices;
}

struct region *bands_at(struct bands *b, uint32_t slot)
{
	struct band_group *group = group_of(b, slot);

	if (!group)
		return NULL;
	/* seq_cst: acquire <- bands_publish(); load after a clearing */
	return ptr_load_seq_cst(&group->region[slot % BANDS_GROUP_SLOTS]);
}

/* What the hints of a slot should say. */
static unsigned true_band(struct bands *b, uint32_t slot)
{
	struct region *r = bands_at(b, slot);

	return r ? bands_of(r, region_look(r)) : BAND_NONE;
}

/* First into the new set, so that a region that moves can be found. */
static void move_to(struct bands *b, uint32_t slot, unsigned band)
{
	struct band_group *group = group_of(b, slot);

	if (band != BAND_NONE)
		set_add(path_of(b, group, band, slot));
	for (unsigned set = 0; set <= BAND_SPARE; set++)
		if (set != band)
			set_remove(path_of(b, group, set, slot));
}

/* Another settler, with an older look, may have taken our hint away. */
static bool is_hinted(struct bands *b, uint32_t slot, unsigned band)
{
	return band == BAND_NONE || bands_has(b, band, slot);
}

void bands_settle(struct bands *b, uint32_t slot)
{
	unsigned band = true_band(b, slot);
	unsigned before;

	do {
		before = band;
		move_to(b, slot, band);
		band = true_band(b, slot);
	} while (band != before || !is_hinted(b, slot, band));
}

static bool has_cold(struct bands *b, uint32_t slot)
{
	struct region *r = bands_at(b, slot);

	return r && region_cold(r) && !word_retired(region_look(r));
}

/* Who changed the hint by an older look comes round and sees it. */
void bands_settle_cold(struct bands *b, uint32_t slot)
{
	struct path p = path_of(b, group_of(b, slot), BAND_COLD, slot);
	bool cold;

	while ((cold = has_cold(b, slot)) != bands_has(b, BAND_COLD, slot)) {
		if (cold)
			set_add(p);
		else
			set_remove(p);
	}
}

bool bands_has_hint(struct bands *b, uint32_t slot)
{
	for (unsigned band = BAND_FULLEST; band <= BAND_SPARE; band++)
		if (bands_has(b, band, slot))
			return true;
	return false;
}

bool bands_is_sparse(const struct region *r, uint64_t word)
{
	return free_slices(r, word) * 4 >= r->slices * 3;
}

static bool take_matters(struct bands *b, const struct region *r,
			 uint64_t old, uint64_t new)
{
	return word_unused(new) == 0 ||
	       (free_slices(r, old) >= r->slices &&
		bands_has(b, BAND_SPARE, r->slot));
}

/* The last step, to all free, is the keeper's. */
static unsigned band_before_spare(const struct region *r, uint32_t free)
{
	return free >= r->slices ? BAND_SPARSEST : (free - 1) * 4 / r->slices;
}

/* Where a multiple of a quarter is passed. */
static bool give_matters(const struct region *r, uint64_t old, uint64_t new)
{
	uint32_t free = free_slices(r, new);
	uint32_t given = word_unused(new) - word_unused(old);

	return word_unused(old) == 0 || free <= given ||
	       band_before_spare(r, free) != band_before_spare(r, free - given);
}

void bands_changed(struct bands *b, struct region *r, uint64_t old,
		   uint64_t new)
{
	if (word_unused(new) < word_unused(old) ?
		    take_matters(b, r, old, new) : give_matters(r, old, new))
		bands_settle(b, r->slot);
}

struct region *bands_first(struct bands *b, unsigned band)
{
	uint32_t slot = 0;

	while ((slot = bands_next(b, band, slot)) != UINT32_MAX) {
		struct region *r = bands_at(b, slot);

		if (r)
			return r;
		slot++;
	}
	return NULL;
}

struct region *bands_pick(struct bands *b)
{
	struct region *r = NULL;

	for (unsigned band = BAND_FULLEST; !r && band <= BAND_SPARE; band++)
		r = bands_first(b, band);
	return r;
}

static bool claim_vacated(struct bands *b, uint32_t *ret_slot)
{
	uint32_t slot = 0;

	while ((slot = bands_next(b, BAND_VACANT, slot)) != UINT32_MAX) {
		if (set_remove(path_of(b, group_of(b, slot), BAND_VACANT,
				       slot))) {
			*ret_slot = slot;
			return true;
		}
		slot++;
	}
	return false;
}

/* The group comes first: a slot without one would be lost. */
static bool claim_unused(struct bands *b, uint32_t *ret_slot)
{
	/* relaxed: compared; bands_slots() acquires */
	uint32_t used = u32_load_relaxed(&b->used);

	do {
		if (!group_make(b, used))
			return false;
		/* seq_cst: release -> bands_slots(); retries only when
		 * another thread claimed a slot */
	} while (!u32_cas_weak_seq_cst(&b->used, &used, used + 1));
	*ret_slot = used;
	return true;
}

bool bands_claim(struct bands *b, uint32_t *ret_slot)
{
	return claim_vacated(b, ret_slot) || claim_unused(b, ret_slot);
}

void bands_vacate(struct bands *b, uint32_t slot)
{
	set_add(path_of(b, group_of(b, slot), BAND_VACANT, slot));
}

static void put_region(struct bands *b, uint32_t slot, struct region *r)
{
	struct band_group *group = group_of(b, slot);

	/* seq_cst: release -> bands_at(); store before the load of waiters
	 * (bands_publish()), and before the clearing (bands_remove()) */
	ptr_store_seq_cst(&group->region[slot % BANDS_GROUP_SLOTS], r);
	bands_settle(b, slot);
	bands_settle_cold(b, slot);
}

void bands_publish(struct bands *b, struct region *r)
{
	put_region(b, r->slot, r);
}

void bands_remove(struct bands *b, struct region *r)
{
	uint32_t slot = r->slot;

	put_region(b, slot, NULL);
	bands_vacate(b, slot);
}

uint32_t bands_slots(struct bands *b)
{
	/* seq_cst: acquire <- claim_unused(); load after the store of
	 * waiters */
	return u32_load_seq_cst(&b->used);
}

uint64_t bands_bytes(struct bands *b)
{
	uint64_t bytes = 0;

	for (uint32_t g = 0; g < BANDS_GROUPS; g++)
		if (group_of(b, g * BANDS_GROUP_SLOTS))
			bytes += sizeof(struct band_group);
	return bytes;
}

/* The slots from that group on are as if they never had been. */
static void forget_from(struct bands *b, uint32_t g)
{
	/* relaxed, all of these: nobody else is there */
	ptr_store_relaxed(&b->group[g], NULL);
	for (unsigned set = 0; set < BAND_SETS; set++) {
		struct atomic_u64 *top = &b->top[set][g / FANOUT];
		uint64_t bits = u64_load_relaxed(top);

		u64_store_relaxed(top, bits & ~((uint64_t)1 << g % FANOUT));
	}
	if (u32_load_relaxed(&b->used) > g * BANDS_GROUP_SLOTS)
		u32_store_relaxed(&b->used, g * BANDS_GROUP_SLOTS);
}

bool bands_clear(struct bands *b)
{
	for (uint32_t g = BANDS_GROUPS; g-- > 0;) {
		struct band_group *group = group_of(b, g * BANDS_GROUP_SLOTS);

		if (!group)
			continue;
		if (os_unmap(group, sizeof(*group)))
			return false;
		forget_from(b, g);
	}
	return true;
}
