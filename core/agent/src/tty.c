#include "tty.h"

#include <stddef.h>
#include <termios.h>

static struct termios before;
static int changed_tty = -1;

static int speed_of(uint32_t baud, speed_t *speed)
{
    static const struct {
        uint32_t baud;
        speed_t speed;
    } speeds[] = {
        {9600, B9600},
        {19200, B19200},
        {38400, B38400},
#ifdef B57600
        {57600, B57600},
#endif
#ifdef B115200
        {115200, B115200},
#endif
#ifdef B230400
        {230400, B230400},
#endif
#ifdef B460800
        {460800, B460800},
#endif
#ifdef B921600
        {921600, B921600},
#endif
    };
    for (size_t i = 0; i < sizeof speeds / sizeof speeds[0]; i++)
        if (speeds[i].baud == baud) {
            *speed = speeds[i].speed;
            return 0;
        }
    return -1;
}

int set_raw(int tty, uint32_t baud)
{
    struct termios settings;
    speed_t speed;
    if (tcgetattr(tty, &settings) != 0)
        return -1;
    if (changed_tty < 0) {
        before = settings;
        changed_tty = tty;
    }
    settings.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | INPCK | ISTRIP | INLCR | IGNCR | ICRNL | IXON | IXOFF);
    settings.c_oflag &= ~(tcflag_t)OPOST;
    settings.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    settings.c_cflag &= ~(tcflag_t)(CSIZE | PARENB | HUPCL);
    settings.c_cflag |= CS8 | CLOCAL | CREAD;
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    if (baud != 0 && speed_of(baud, &speed) == 0) {
        (void)cfsetispeed(&settings, speed);
        (void)cfsetospeed(&settings, speed);
    }
    return tcsetattr(tty, TCSANOW, &settings);
}

void restore_tty(void)
{
    if (changed_tty >= 0)
        (void)tcsetattr(changed_tty, TCSADRAIN, &before);
    changed_tty = -1;
}

void forget_tty(void) { changed_tty = -1; }
