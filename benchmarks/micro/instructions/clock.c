/* A clock on which every reading is a microsecond after the one before; preloaded.
 *
 * What waits for a deadline, or stops after a millisecond, else does more or less work by how busy the machine is.
 */
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long readings;
    (void)clock;
    readings++;
    now->tv_sec = 1000000000 + readings / 1000000;
    now->tv_nsec = readings % 1000000 * 1000;
    return 0;
}
