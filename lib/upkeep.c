/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's work in a process that is to have no thread but its own. */
#include <errno.h>
#include <limits.h>

#include "keeper.h"
#include "os.h"
#include "rcu.h"
#include "seg.h"

static unsigned ms_of(uint64_t ns)
{
	const uint64_t ns_per_ms = 1000 * 1000;

	return ns >= (uint64_t)UINT_MAX * ns_per_ms ? UINT_MAX :
		(unsigned)((ns + ns_per_ms - 1) / ns_per_ms);
}

int seg_upkeep(unsigned *ret_ms)
{
	uint64_t next_ns;

	if (rcu_inside())
		return -EDEADLK;
	next_ns = keeper_turn();
	if (ret_ms)
		*ret_ms = ms_of(next_ns);
	return 0;
}

int seg_upkeep_start(void)
{
	if (rcu_inside() || keeper_at_work())
		return -EDEADLK;
	return keeper_start();
}
