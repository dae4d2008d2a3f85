// The worker that the tabs of a browser share. See SharedSource in lastpair.js.

import { serveTabs } from "./lastpair.js";

serveTabs();
