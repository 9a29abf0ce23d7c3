/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See budget.h. */
#include "budget.h"

#include "assert.h"
#include "backoff.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- one account; all in units ---- */

static uint64_t limit_of(uint64_t word)
{
	return word >> 32;
}

static uint64_t charged_of(uint64_t word)
{
	return word & UINT32_MAX;
}

static uint64_t room_of(uint64_t word)
{
	return limit_of(word) - charged_of(word);
}

static uint64_t account_look(struct atomic_u64 *account)
{
	/* seq_cst: load after the store of waiters, see budget_wait_begin();
	 * and after our own change of the other account (B5) */
	return u64_load_seq_cst(account);
}

/* All of it, and the charge since then; or nothing. */
static inline bool account_charge(struct atomic_u64 *account, uint64_t units,
			   uint64_t *ret_charged)
{
	uint64_t old = account_look(account);
	struct backoff backoff = BACKOFF_INIT;

	for (;;) {
		if (charged_of(old) + units > limit_of(old))
			return false;
		/* seq_cst: acquire <- account_uncharge(): the munmap is over;
		 * before the look at the other account (B5); retries only when
		 * another charge, uncharge or limit came between */
		if (u64_cas_weak_seq_cst(account, &old, old + units))
			break;
		backoff_pause(&backoff);
	}
	*ret_charged = charged_of(old) + units;
	return true;
}

/* As much as there is room for. */
static uint64_t account_charge_some(struct atomic_u64 *account, uint64_t most)
{
	uint64_t old = account_look(account);
	uint64_t units;

	do {
		units = least(room_of(old), most);
		/* seq_cst: as account_charge(), retries likewise */
	} while (units && !u64_cas_weak_seq_cst(account, &old, old + units));
	return units;
}

static inline void account_uncharge(struct atomic_u64 *account, uint64_t units)
{
	/* seq_cst: release -> account_charge(); store before the load of
	 * waiters, see budget_notify(), and of the other account (B5) */
	uint64_t old = u64_sub_seq_cst(account, units);

	seg_assert(charged_of(old) >= units);
	(void)old;
}

/* As much as is charged. */
static uint64_t account_uncharge_some(struct atomic_u64 *account, uint64_t most)
{
	uint64_t old = account_look(account);
	uint64_t units;

	do {
		units = least(charged_of(old), most);
		/* seq_cst: as account_uncharge(); retries as the charge */
	} while (units && !u64_cas_weak_seq_cst(account, &old, old - units));
	return units;
}

/* Limit and charge grow, or shrink, together: the room stays as it is.
 * False: less than that is charged. */
static void account_widen(struct atomic_u64 *account, uint64_t units)
{
	/* seq_cst: as account_charge() */
	u64_add_seq_cst(account, budget_word(units, units));
}

static bool account_narrow(struct atomic_u64 *account, uint64_t units)
{
	uint64_t old = account_look(account);

	do {
		if (charged_of(old) < units)
			return false;
		/* seq_cst: as account_charge(), retries likewise */
	} while (!u64_cas_weak_seq_cst(account, &old,
				       old - budget_word(units, units)));
	return true;
}

/* The limit alone; false: it would fall below the charge. */
static void account_raise(struct atomic_u64 *account, uint64_t units)
{
	/* seq_cst: store before the load of waiters, see budget_notify() */
	u64_add_seq_cst(account, budget_word(units, 0));
}

static bool account_lower(struct atomic_u64 *account, uint64_t units)
{
	uint64_t old = account_look(account);

	do {
		if (room_of(old) < units)
			return false;
		/* seq_cst: as account_charge(), retries likewise */
	} while (!u64_cas_weak_seq_cst(account, &old,
				       old - budget_word(units, 0)));
	return true;
}

/* ---- charge and uncharge ---- */

/* The sum is a pair, too: neither half overflows into the other (B1). */
static uint64_t look_child(struct seg_budget *b)
{
	uint64_t reserve = account_look(&b->reserve);

	for (;;) {
		uint64_t word = account_look(&b->word);
		uint64_t again = account_look(&b->reserve);

		if (again == reserve)
			return reserve + word;
		reserve = again;
	}
}

uint64_t budget_look(struct seg_budget *b)
{
	return b->parent ? look_child(b) : account_look(&b->word);
}

/* Takes so much of the reserve as is borrowed nevertheless: to be uncharged. */
static uint64_t overlap(struct seg_budget *b, uint64_t most)
{
	/* seq_cst: after our own change of the reserve or the word (B5) */
	uint64_t borrowed = charged_of(u64_load_seq_cst(&b->word));

	return account_charge_some(&b->reserve, least(borrowed, most));
}

/* Both are there, but may be on the way from one to the other: then again. */
static void uncharge(struct seg_budget *b, uint64_t units)
{
	while (b->parent && units) {
		uint64_t given = account_uncharge_some(&b->word, units);

		if (given)
			uncharge(b->parent, given);
		units -= given;
		given = account_uncharge_some(&b->reserve, units);
		units -= given;
		units += overlap(b, given);
	}
	if (units)
		account_uncharge(&b->word, units);
}

static bool charge(struct seg_budget *b, uint64_t units);

/* The parent first. */
static bool borrow(struct seg_budget *b, uint64_t units)
{
	uint64_t charged;

	if (!units)
		return true;
	if (!charge(b->parent, units))
		return false;
	if (account_charge(&b->word, units, &charged))
		return true;
	uncharge(b->parent, units);
	budget_notify(b);
	return false;
}

/* What was charged half-way, or twice, is given back. */
static bool charge_child(struct seg_budget *b, uint64_t units)
{
	uint64_t reserved = account_charge_some(&b->reserve, units);
	bool done = borrow(b, units - reserved);
	uint64_t back = reserved;

	if (done)
		back = units > reserved ? overlap(b, units - reserved) : 0;
	if (back) {
		uncharge(b, back);
		budget_notify(b);
	}
	return done;
}

/* Each level has a peak of its own. */
static bool charge(struct seg_budget *b, uint64_t units)
{
	uint64_t charged;

	if (!b->parent) {
		if (!account_charge(&b->word, units, &charged))
			return false;
	} else {
		/* looked at first: what can't fit is in nobody's way */
		if (units > budget_units(budget_room(b)) ||
		    !charge_child(b, units))
			return false;
		charged = charged_of(budget_look(b));
	}
	gauge_raise_peak(&b->peak_units, charged);
	return true;
}

void budget_refuse(struct seg_budget *b)
{
	u64_add_relaxed(&b->refusals, 1); /* relaxed: counter */
}

bool budget_charge(struct seg_budget *b, uint64_t bytes)
{
	bool done = charge(b, budget_units(bytes));

	if (!done)
		budget_refuse(b);
	return done;
}

void budget_uncharge(struct seg_budget *b, uint64_t bytes)
{
	if (b->parent)
		uncharge(b, budget_units(bytes));
	else
		account_uncharge(&b->word, budget_units(bytes));
}

uint64_t budget_room(struct seg_budget *b)
{
	uint64_t reserve, word;

	if (!b->parent)
		return budget_word_room(account_look(&b->word));
	reserve = budget_word_room(account_look(&b->reserve));
	word = budget_word_room(account_look(&b->word));
	return reserve + (word ? least(word, budget_room(b->parent)) : 0);
}

uint64_t budget_limit(struct seg_budget *b)
{
	uint64_t limit = budget_word_limit(budget_look(b));

	while ((b = b->parent) != NULL)
		limit = least(limit, budget_word_limit(budget_look(b)));
	return limit;
}

void budget_defer(struct seg_budget *b, uint64_t bytes)
{
	u64_add_relaxed(&b->deferred_bytes, bytes); /* relaxed: counter */
}

/* In this order, so that who sees none deferred finds them uncharged, or
 * waits for a moment in vain; never the other way round for good. */
void budget_uncharge_deferred(struct seg_budget *b, uint64_t bytes)
{
	budget_uncharge(b, bytes);
	u64_sub_relaxed(&b->deferred_bytes, bytes); /* relaxed: counter */
}

void budget_stick(struct seg_budget *b, uint64_t bytes)
{
	u64_add_relaxed(&b->stuck_bytes, bytes); /* relaxed: counter */
}

void budget_unstick(struct seg_budget *b, uint64_t bytes)
{
	u64_sub_relaxed(&b->stuck_bytes, bytes); /* relaxed: counter */
}

/* ---- limits and guarantees that change ---- */

/* The limit that an account of charge `old` gets, or none. */
static bool set_limit(struct seg_budget *b, uint64_t limit, bool as_charged,
		      uint64_t *ret_limit)
{
	uint64_t old = account_look(&b->word);

	do {
		*ret_limit = limit;
		if (charged_of(old) > limit) {
			if (!as_charged)
				return false;
			*ret_limit = charged_of(old);
		}
		/* seq_cst: store before the load of waiters, see
		 * budget_notify(); retries when a charge came between */
	} while (!u64_cas_weak_seq_cst(&b->word, &old,
				       budget_word(*ret_limit,
						   charged_of(old))));
	return true;
}

bool budget_try_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	uint64_t guarantee = limit_of(account_look(&b->reserve));
	uint64_t limit = budget_units(limit_bytes);

	return limit >= guarantee &&
	       set_limit(b, limit - guarantee, false, &limit);
}

uint64_t budget_lower_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	uint64_t limit = budget_units(limit_bytes);

	seg_assert(!b->parent);
	set_limit(b, limit, true, &limit);
	return limit * BUDGET_UNIT;
}

/* Takes from the guarantee, with what is charged beyond the rest of it; so much
 * counts once too often already, and the rest of that is uncharged. */
static void shrink_reserve(struct seg_budget *b, uint64_t units)
{
	uint64_t old = account_look(&b->reserve);
	uint64_t left, charged;

	do {
		left = limit_of(old) - units;
		charged = charged_of(old) > left ? charged_of(old) - left : 0;
		/* seq_cst: as account_uncharge(), retries likewise */
	} while (!u64_cas_weak_seq_cst(&b->reserve, &old,
				       old - budget_word(units, charged)));
	uncharge(b, units - charged);
}

/* All of the part counts as borrowed first, then it goes from the guarantee.
 * Sums of limits and of charges are too large by the same number meanwhile. */
static void lower_guarantee(struct seg_budget *b, uint64_t units)
{
	account_widen(&b->word, units);
	shrink_reserve(b, units);
}

/* What is borrowed becomes a part of the guarantee; the parent has been charged
 * for it.  It counts twice for a moment.  False: so much was not borrowed. */
static bool reserve_borrowed(struct seg_budget *b, uint64_t units)
{
	account_widen(&b->reserve, units);
	if (account_narrow(&b->word, units))
		return true;
	shrink_reserve(b, units);
	return false;
}

/* Room of the word becomes room of the reserve, for which the parent pays.
 * Lower before raise: never more than the limit.  1: try again. */
static int reserve_room(struct seg_budget *b, uint64_t units)
{
	if (!charge(b->parent, units))
		return -1;
	if (!account_lower(&b->word, units)) {
		uncharge(b->parent, units);
		return 1;
	}
	account_raise(&b->reserve, units);
	units = overlap(b, units);
	if (units)
		uncharge(b, units);
	return 0;
}

/* What is borrowed becomes guaranteed first: that needs no room.  What was
 * left when the parent had none. */
static uint64_t raise_guarantee(struct seg_budget *b, uint64_t units)
{
	while (units) {
		uint64_t borrowed = charged_of(account_look(&b->word));
		uint64_t part = least(borrowed, units);
		int ret;

		if (part) {
			if (reserve_borrowed(b, part))
				units -= part;
			continue;
		}
		ret = reserve_room(b, units);
		if (ret < 0)
			break;
		if (!ret)
			units = 0;
	}
	return units;
}

bool budget_try_guarantee(struct seg_budget *b, uint64_t bytes)
{
	uint64_t old = limit_of(account_look(&b->reserve));
	uint64_t new = budget_units(bytes);
	uint64_t left;

	if (new <= old) {
		if (new < old)
			lower_guarantee(b, old - new);
		return true;
	}
	left = raise_guarantee(b, new - old);
	if (left && left < new - old)
		lower_guarantee(b, new - old - left);
	return left == 0;
}
